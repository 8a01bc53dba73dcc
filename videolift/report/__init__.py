"""Looking at results: a preview video, a file for the rerun viewer, a page about a whole run."""

from videolift.report.page import write_report
from videolift.report.preview import write_preview
from videolift.report.rerun_file import write_rerun

__all__ = ["write_preview", "write_report", "write_rerun"]
