"""For mkdocs: links to files of the repository that are no pages lead to where the repository says it lives, or stay text."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def on_page_markdown(markdown, page, **_):
    """Takes the link off what is outside the site, so that no page of it leads nowhere."""

    def inside(match):
        target = match[2].split("#")[0]
        is_page = not target or "://" in target or (DOCS / Path(page.file.src_uri).parent / target).resolve().is_relative_to(DOCS)
        return match[0] if is_page else f"`{match[1]}`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)", inside, markdown)
