"""Looking at results: a preview video, a page about a whole run, one video in 3D as a page or for the rerun viewer."""

from videolift.report.audit_sheet import write_audit_sheet
from videolift.report.page import write_report
from videolift.report.preview import write_preview
from videolift.report.rerun_file import open_viewer, write_rerun
from videolift.report.scene_page import write_scene_page

__all__ = ["open_viewer", "write_audit_sheet", "write_preview", "write_report", "write_rerun", "write_scene_page"]
