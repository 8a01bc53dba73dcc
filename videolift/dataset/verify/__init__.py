"""Verification: does a packaged file, or a published dataset, hold what it says it holds, and may it be handed out?"""

from videolift.dataset.verify.dataset_checks import as_json, verify_dataset, verify_file, verify_path
from videolift.dataset.verify.file_checks import Finding
from videolift.dataset.verify.publishable import PublicReport, check_public

__all__ = ["Finding", "PublicReport", "as_json", "check_public", "verify_dataset", "verify_file", "verify_path"]
