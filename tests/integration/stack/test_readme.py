"""Every shell block of README.md, run as a reader would, against a running stack."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.documents import ROOT, Block, blocks_of
from tests.integration.stack.shell import Shell
from tests.stack import Stack

BLOCKS = [block for block in blocks_of(ROOT / "README.md") if block.language == "sh"]
_MAKE = re.compile(r"make ([a-z-]+) *(#.*)?")


@pytest.fixture(scope="module")
def shell(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in a folder that looks like a checkout in which the stack runs."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / ".rayfold").symlink_to(stack.data)
    (folder / "loadtests").symlink_to(ROOT / "loadtests")
    return Shell(folder, stack.url)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line-{block.line}")
def test_a_shell_block_of_the_readme_runs(block: Block, shell: Shell) -> None:
    lines = [line for line in block.source.splitlines() if line]
    if all(_MAKE.fullmatch(line) for line in lines):
        for line in lines:
            has_target(line)  # they run this very suite, or for minutes
        return
    shell.run(block.source.replace("--run-time 30s", "--run-time 2s"))


def test_what_the_readme_reads_back_is_what_it_wrote(shell: Shell, http: httpx.Client) -> None:
    curl = next(block for block in BLOCKS if "ORDER=" in block.source)
    said = shell.run(curl.source + "\necho; echo $ORDER")
    order = http.get(f"/orders/{said.split()[-1]}").json()
    assert order["status"] == "placed"
    assert order["total_cents"] == 900
    assert order["revision"] == 2


def test_the_readme_leaves_no_more_replicas_than_there_were(http: httpx.Client) -> None:
    assert http.post("/operators/scale", json={"target": "memory", "n": 1}).status_code == 200


def has_target(line: str) -> None:
    """Check that the Makefile has what a line makes."""
    found = _MAKE.fullmatch(line)
    assert found is not None
    dry = ["make", "--dry-run", found[1], "--assume-old=.venv/installed"]
    done = subprocess.run(dry, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_target_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        has_target("make coffee")
