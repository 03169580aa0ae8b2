"""What documents say of files is so: the tree in ARCHITECTURE.md, links, paths in prose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT, blocks_of

FOLDERS = (
    *("rayfold", "domain", "examples", "eventstore", "actors", "projections", "api", "deploy"),
    *("loadtests", "tests", "docs"),
)

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`")
_ENTRY = re.compile(r"( *)(\S+) +(\S.*)")


def printed_tree() -> set[str]:
    """Return the paths of the tree that ARCHITECTURE.md prints."""
    text = next(
        block.source
        for block in blocks_of(ROOT / "ARCHITECTURE.md")
        if block.source.startswith("rayfold/")
    )
    paths, folder = set(), ""
    for line in text.splitlines():
        entry = _ENTRY.fullmatch(line)
        assert entry is not None, f"this entry does not say what it is: {line!r}"
        indent, name, _ = entry.groups()
        folder = folder if indent else name
        paths.add(folder + name if indent else name)
    return paths


def real_tree() -> set[str]:
    """Return those of the files that are there, to two levels."""
    paths = {f"{folder}/" for folder in FOLDERS}
    for path in (path for folder in FOLDERS for path in (ROOT / folder).iterdir()):
        name = path.relative_to(ROOT).as_posix()
        if path.is_dir() and any(is_source(each) for each in path.rglob("*")):
            paths.add(f"{name}/")
        elif is_source(path):
            paths.add(name)
    return paths


def is_source(path: Path) -> bool:
    """Return whether it is a file that somebody wrote."""
    return path.suffix in (".py", ".md", ".png", ".yaml") and path.name not in (
        "__init__.py",
        "__main__.py",
    )


def test_the_tree_in_the_architecture_is_the_real_one() -> None:
    printed, real = printed_tree(), real_tree()
    assert printed - real == set(), (
        "ARCHITECTURE.md's tree has paths that do not exist: remove these lines"
    )
    assert real - printed == set(), "ARCHITECTURE.md's tree lacks these paths: add a line for each"


def name_of(page: Path) -> str:
    """Return what a test is called by."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_of_this_repository(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if target.startswith(("https://", "http://", "#")):
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve()
        assert found.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert found.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors_of(found), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_in_prose_exist(page: Path) -> None:
    for path in _PATH.findall(page.read_text()):
        if path.startswith("docs/adr/") and any((ROOT / "docs/adr").glob(f"{Path(path).name}*")):
            continue
        if path.startswith("loadtests/results/"):
            continue  # written by `make bench`
        assert (ROOT / path).exists(), f"{path} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_mentioned_exist(page: Path) -> None:
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), (
            f"{file} does not have the test {test}"
        )


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=name_of)
def test_a_page_says_its_kind(page: Path) -> None:
    kinds = {
        "tutorial": "tutorial",
        "how-to": "how-to",
        "reference": "reference",
        "explanation": "explanation",
    }
    kind = kinds.get(page.parent.name)
    if kind is not None:
        assert f"*Kind: {kind}." in page.read_text().splitlines()[2]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_points_outside(page: Path) -> None:
    text = page.read_text()
    for word in ("../shared", "/work/", "/home/", "/root/"):
        assert word not in text


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
