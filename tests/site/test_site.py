"""The documentation: every link leads somewhere, every page is in the navigation, blocks say what the program understands."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer
import yaml

from tests.site.error_texts import ROOT, error_texts
from tests.site.hooks import on_page_markdown
from videolift.cli import app

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LLMS = DOCS / "llms.txt"
INTRO = """# videolift

> From videos of hands at work to a checked HDF5 training dataset: RGB, metric depth, camera pose, 3D point tracks, hand poses.

One command makes it: `snakemake --cores all --config videos=FOLDER output=OUT`. Pages:

"""


def llms_text() -> str:
    """Every page with its title, for language models; in the order of the navigation."""
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for path in PAGES}
    return INTRO + "".join(f"- [{titles[name]}]({name})\n" for name in navigation())


def navigation():
    tree = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    def walk(node):
        if isinstance(node, str):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from walk(child)

    return list(walk(tree))


def anchors(path):
    """As GitHub and mkdocs make them of headings."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            text = re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower().replace("`", ""))
            found.add(text.strip().replace(" ", "-"))
    return found


def without_blocks(text):
    return re.sub(r"```.*?```", "", text, flags=re.S)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        name, _, heading = target.partition("#")
        if "://" in name:
            continue
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (heading and there.suffix == ".md" and heading not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_navigation_once():
    assert sorted(navigation()) == [path.name for path in PAGES]


def test_the_list_for_language_models_names_every_page():
    assert LLMS.read_text(encoding="utf-8") == llms_text(), "run: python -m tests.site.test_site"


def test_every_error_text_is_found_and_the_page_takes_it_in():
    texts = error_texts()
    assert len([one for one in texts if one.kind == "BadInput"]) > 40
    assert {"ConfigError", "BackendUnavailable", "CorruptFile"} <= {one.kind for one in texts}
    page = SimpleNamespace(file=SimpleNamespace(src_uri="errors.md"))
    shown = on_page_markdown((DOCS / "errors.md").read_text(encoding="utf-8"), page)
    assert shown.count("\n- ") + shown.count("\n| `") >= len(texts)


def test_every_quarantine_comes_with_a_remedy():
    assert [one for one in error_texts() if one.kind == "BadInput" and len(one.remedy) < 8] == []


def blocks(*languages):
    for page in [ROOT / "README.md", *PAGES]:
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M):
            if language in languages:
                yield pytest.param(text, id=f"{page.name}: {text.splitlines()[0][:50] if text.strip() else ''}")


@pytest.mark.parametrize("text", list(blocks("python")))
def test_every_block_of_python_is_python(text):
    ast.parse(text + ("    ...\n" if text.rstrip().endswith(":") else ""))


@pytest.mark.parametrize("text", list(blocks("sh", "bash")))
def test_every_videolift_command_in_a_block_exists_with_its_options(text):
    root = typer.main.get_command(app)
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        names = [number for number, word in enumerate(words) if word.split("/")[-1] == "videolift"]
        if not names or words[names[0] + 1 :][:1] in ([], ["--help"]):
            continue
        command, rest = root, words[names[0] + 1 :]
        while hasattr(command, "commands") and rest:
            assert rest[0] in command.commands, f"no command {rest[0]!r} in: {line}"
            command, rest = command.commands[rest[0]], rest[1:]
        if command.context_settings.get("ignore_unknown_options"):
            continue  # run, plan, doctor and models hand their options on
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = {word.split("=")[0] for word in rest if word.startswith("-") and word != "-"} - known - {"--help"}
        assert not unknown, line


def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path):
    if shutil.which("mkdocs", path=f"{sys.prefix}/bin") is None:
        pytest.skip("mkdocs is not installed: pip install -e '.[docs]'")
    built = subprocess.run(
        [f"{sys.prefix}/bin/mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(https?:[^\"' >]+)", page.read_text())
        assert [address for address in loaded if "rel=canonical" not in address] == [], page.name


if __name__ == "__main__":
    LLMS.write_text(llms_text(), encoding="utf-8")
