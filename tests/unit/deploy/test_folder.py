"""The data folder: whose it is, and what it says to other commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli.events import store_of
from deploy.errors import StartError
from deploy.stack import folder
from deploy.stack.settings import Settings


def test_where_the_store_of_an_earlier_stack_was_is_not_told(tmp_path: Path) -> None:
    """The one before had a store of its own, and this one was given another's."""
    (tmp_path / "eventstore.uri").write_text("kdb://127.0.0.1:1")
    with folder.locked(tmp_path):
        folder.announce(tmp_path, "http://127.0.0.1:1")
        with pytest.raises(StartError, match="give the store's --eventstore"):
            store_of(Settings(data=tmp_path))


def test_a_folder_that_does_not_forget_is_free_again(tmp_path: Path) -> None:
    with folder.locked(tmp_path):
        (tmp_path / "gateway.json").mkdir()  # which nobody can unlink
    (tmp_path / "gateway.json").rmdir()
    with folder.locked(tmp_path):
        pass
