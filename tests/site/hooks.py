"""For mkdocs: error texts are read from the source; links to files of the repository that are no pages become plain text."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.site.error_texts import MARK, error_texts, render

DOCS = Path(__file__).resolve().parents[2] / "docs"


def on_page_markdown(markdown, page, **_):
    """Fills in the error texts, and takes the link off what is outside the site, so that no page leads nowhere."""

    def inside(match):
        target = match[2].split("#")[0]
        is_page = not target or "://" in target or (DOCS / Path(page.file.src_uri).parent / target).resolve().is_relative_to(DOCS)
        return match[0] if is_page else f"`{match[1]}`"

    if MARK in markdown:
        markdown = markdown.replace(MARK, render(error_texts()))
    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)", inside, markdown)
