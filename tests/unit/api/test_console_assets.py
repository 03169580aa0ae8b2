"""The console's files: those in the lock file, unchanged; none evaluates text."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tests.documents import ROOT

CONSOLE = ROOT / "api/console"
VENDOR = CONSOLE / "vendor"


def test_vendored_files_are_those_of_the_lock_file() -> None:
    wanted = json.loads((VENDOR / "package.json").read_text())
    locked = json.loads((VENDOR / "package-lock.json").read_text())["packages"]
    asked = wanted["dependencies"] | wanted["devDependencies"]
    noted = [line.split() for line in (VENDOR / "files.txt").read_text().splitlines()]
    assert {package for _, package, _, _ in noted} == set(asked)
    for name, package, version, digest in noted:
        assert version == asked[package] == locked[f"node_modules/{package}"]["version"]
        assert locked[f"node_modules/{package}"]["integrity"].startswith("sha512-")
        folder = VENDOR if package in wanted["dependencies"] else ROOT / "tests/integration/console"
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    brought = {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    assert brought <= {name for name, *_ in noted}


def test_no_path_of_a_registry_is_in_the_lock() -> None:
    assert "http" not in (VENDOR / "package-lock.json").read_text()


def test_each_vendored_package_has_its_licence() -> None:
    wanted = json.loads((VENDOR / "package.json").read_text())["dependencies"]
    told = re.findall(r"^== (\S+) ==$", (VENDOR / "LICENCES.txt").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(wanted)


def test_pages_have_no_script_no_style_and_nothing_of_other_hosts() -> None:
    pages = sorted((CONSOLE / "pages").glob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<script(?! src=\"\{\{ asset)", text), page.name
        assert not re.search(r"<style|\s(on[a-z]+|style|hx-on[^=]*|hx-vars)=|js:|://", text), (
            page.name
        )
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), page.name
    assert '"allowEval": false' in (CONSOLE / "pages/layout.html").read_text()


def test_only_listed_files_are_served() -> None:
    folders = [CONSOLE / "static", VENDOR]
    assert {path.suffix for folder in folders for path in folder.iterdir()} == {
        *(".css", ".js", ".svg"),
        *(".json", ".sh", ".txt"),  # of the vendored files; not served
    }


def test_every_page_is_reached_by_a_route() -> None:
    code = "".join(path.read_text() for path in CONSOLE.glob("*.py"))
    pages = {path.name: path.read_text() for path in (CONSOLE / "pages").glob("*.html")}
    for name in pages:
        others = code + "".join(text for other, text in pages.items() if other != name)
        assert f'"{name}"' in others, name


def test_its_folder_is_in_the_wheel() -> None:
    from hatch_build import packaged

    assert packaged(Path(CONSOLE / "pages" / "layout.html"), ROOT / "api")
    assert packaged(Path(VENDOR / "htmx.min.js"), ROOT / "api")
