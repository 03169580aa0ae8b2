"""What several suites need: a domain, an event store, a Postgres."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from rayfold import Registry
from tests.postgres_server import postgres_server

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
"""No property fails for the time that it takes: the machine may be busy."""


COSTS = ("unit", "contract", "integration", "chaos")
"""Folders of tests that are markers too; see `pyproject.toml` for what each costs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder, so that `pytest -m unit` runs the quick ones."""
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in COSTS:
            item.add_marker(folder)


def pytest_collection_finish() -> None:
    """Have the garbage collector look no more at what stays to the end, and seldom at the rest.

    Each of its full runs would look at all modules and all tests, and an application that a test
    makes and drops is some of them: a third of the time of the gateway's unit tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # Python's default is 700, 10, 10


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The reference domain."""
    return Registry.load("domain")


@pytest.fixture(scope="session")
def eventstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded store, as a process."""
    yield from serve_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def own_eventstore(tmp_path: Path) -> Iterator[str]:
    """An embedded store that no other test writes to."""
    yield from serve_store(tmp_path / "store")


def serve_store(data: Path) -> Iterator[str]:
    """Run an embedded store; its URI, once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore.embedded", "--port", "0", "--data", str(data)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    yield process.stdout.readline().decode().strip()
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A DSN."""
    with postgres_server() as dsn:
        yield dsn
