"""A page as one file that opens from disk: markup, style, script and data of ``assets``, put into each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files


def fill_page(name: str, data: Mapping[str, object], *, library: str | None = None) -> str:
    """``assets/{name}.html`` with its style, script and ``data`` inside.

    Args:
        name: of the three assets.
        data: what JSON can hold; the page finds it in the element ``data``.
        library: the asset that the script draws with.
    """
    assets = files("videolift.report") / "assets"
    page, style, script = (assets.joinpath(f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    # "</script" would end the element, also inside a JSON string.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"style": style, "script": script, "data": text}
    if library is not None:
        parts = {"library": assets.joinpath(library).read_text(encoding="utf-8")} | parts
    for mark, content in parts.items():
        page = page.replace(f"/*{mark}*/", content)
    return page
