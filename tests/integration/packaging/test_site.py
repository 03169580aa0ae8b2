"""The documentation site: built without a network, and read without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rayfold
from deploy.stack.settings import Settings
from tests.conftest import ROOT

_ASSET = re.compile(r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=\"?((?:https?:)?//[^\" >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a proxy that nobody serves keeps the build from the network."""
    folder = tmp_path_factory.mktemp("site")
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **offline, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert {asset for page in pages for asset in _ASSET.findall(page.read_text())} == set()


def test_the_vocabulary_and_the_settings_are_on_their_pages(site: Path) -> None:
    vocabulary = (site / "reference" / "vocabulary.html").read_text()
    ids = set(re.findall(r'id="rayfold\.(?:sql\.)?(\w+)"', vocabulary))  # `sql` is a module too
    assert set(rayfold.__all__) - ids == set()
    settings = (site / "reference" / "settings.html").read_text()
    assert {name for name in Settings.model_fields if f".Settings.{name}" not in settings} == set()
