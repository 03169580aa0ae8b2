"""The data folder: its owner, and what it tells other commands."""

from __future__ import annotations

import errno
from pathlib import Path
from stat import S_IMODE

import pytest

from deploy.cli.events import store_of
from deploy.errors import StartError
from deploy.stack import folder
from deploy.stack.settings import Settings
from eventstore.embedded.storage.data_folder import DataFolder, ForeignFolderError


def test_the_store_of_an_earlier_stack_is_not_used(tmp_path: Path) -> None:
    """The earlier stack had a store of its own; the present one was given an external store."""
    (tmp_path / "lock").touch()
    (tmp_path / "eventstore.uri").write_text("kdb://127.0.0.1:1")
    with folder.locked(tmp_path):
        folder.announce(tmp_path, "http://127.0.0.1:1")
        with pytest.raises(StartError, match="give the store's --eventstore"):
            store_of(Settings(data=tmp_path))


def test_a_data_folder_is_released_even_if_its_files_cannot_be_removed(tmp_path: Path) -> None:
    with folder.locked(tmp_path):
        (tmp_path / "gateway.json").mkdir()  # which nobody can unlink
    (tmp_path / "gateway.json").rmdir()
    with folder.locked(tmp_path):
        pass


@pytest.mark.parametrize("mine", ["pyproject.toml", "eventstore"])
@pytest.mark.parametrize("below", [".", "below"])
def test_a_folder_with_foreign_files_is_refused_and_left_as_it_is(
    tmp_path: Path, mine: str, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--data .` would close a project's folder to all others; so would `--data ..`."""
    (tmp_path / mine / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / mine / below if below != "." else tmp_path)
    tmp_path.chmod(0o755)
    with pytest.raises(StartError, match=f"other files .* like {mine}"), folder.locked(tmp_path):
        pass
    assert S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [each.name for each in tmp_path.iterdir()] == [mine]


def test_a_data_folder_given_by_option_may_contain_files(tmp_path: Path) -> None:
    """As with `rayfold up --data here > here/up.log`."""
    (tmp_path / "up.log").touch()
    with folder.locked(tmp_path) as taken:
        assert S_IMODE(taken.stat().st_mode) & 0o066 == 0
    DataFolder(tmp_path / "eventstore").close()


def test_the_event_store_leaves_a_folder_with_foreign_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `rayfold eventstore --data .` in a project with a package of that name."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "__init__.py").touch()
    with pytest.raises(ForeignFolderError, match="other files in it, like __init__"):
        DataFolder(tmp_path)
    assert S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("there", ["lost+found", ".profile", "lock", "eventstore/events.sqlite"])
def test_a_new_disk_or_home_or_restored_log_is_accepted_as_a_data_folder(
    tmp_path: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    with folder.locked(tmp_path) as taken:
        assert S_IMODE(taken.stat().st_mode) & 0o066 == 0


def test_another_users_folder_is_reported_as_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> str:  # as the system does, but for root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StartError, match="cannot be read: Permission denied: be the user"):
        folder.gateway_of(tmp_path)
