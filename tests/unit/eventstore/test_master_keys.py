"""What the keys of persons are wrapped with: a file on each node, one master key a line."""

from __future__ import annotations

import base64
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from eventstore.personal.keys import new_key
from eventstore.personal.master_keys import VARIABLE, WRAPPED, Damaged, MasterKeys, NoMasterKey

FIRST, SECOND = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
ID = UUID(int=7)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "master-keys"


def masters(file: Path, *lines: str) -> MasterKeys:
    """Write the file; master keys as they are in a process that begins now."""
    file.write_text("\n".join(lines))
    return MasterKeys(str(file))


def test_without_a_file_keys_are_kept_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    key = new_key("ada").key
    assert MasterKeys().wrapped(key, ID, "ada") == key
    assert MasterKeys().unwrapped(key, ID, "ada") == key


def test_a_wrapped_key_is_opened_with_what_wrapped_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key("ada").key
    kept = masters(file, "# of 2026", "", FIRST, "").wrapped(key, ID, "ada")
    assert key not in kept
    assert len(kept) == WRAPPED
    monkeypatch.setenv(VARIABLE, str(file))
    assert MasterKeys().unwrapped(kept, ID, "ada") == key
    assert masters(file, FIRST).wrapped(key, ID, "ada") != kept, "a nonce was used twice"


@pytest.mark.parametrize(("id", "subject"), [(UUID(int=8), "ada"), (ID, "bob")])
def test_a_key_that_was_moved_to_another_row_is_not_taken(
    file: Path, id: UUID, subject: str
) -> None:
    there = masters(file, FIRST)
    kept = there.wrapped(new_key("ada").key, ID, "ada")
    with pytest.raises(Damaged, match=str(id)):
        there.unwrapped(kept, id, subject)


def test_a_new_first_master_key_wraps_at_once_and_older_ones_unwrap(file: Path) -> None:
    running = masters(file, FIRST)
    key, beginning = new_key("ada").key, running.beginning
    kept = running.wrapped(key, ID, "ada")
    masters(file, SECOND, FIRST)
    assert running.unwrapped(kept, ID, "ada") == key
    assert kept.startswith(beginning)
    assert running.wrapped(key, ID, "ada").startswith(running.beginning)
    assert running.beginning != beginning
    masters(file, "plain", FIRST)
    assert running.wrapped(key, ID, "ada") == key
    assert running.unwrapped(kept, ID, "ada") == key
    assert running.beginning == b""


def test_a_missing_master_key_is_named_by_a_hash(file: Path) -> None:
    kept = masters(file, FIRST).wrapped(new_key("ada").key, ID, "ada")
    name = kept[1:5].hex()
    with pytest.raises(NoMasterKey, match=f"{name}, which is not in {file}"):
        masters(file, SECOND).unwrapped(kept, ID, "ada")
    with pytest.raises(NoMasterKey, match=f"{name}, which is not here: {VARIABLE} is not set"):
        MasterKeys("").unwrapped(kept, ID, "ada")


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ((), "no master key: write one a line"),
        (("# none",), "no master key: write one a line"),
        (("plain",), "no master key: write one a line"),
        ((FIRST, "c2VjcmV0"), "line 2 is not a master key: 32 bytes in base64"),
        ((FIRST[:-4] + "é",), "line 1 is not a master key"),
        ((FIRST, "plain"), "line 2 is not a master key"),
    ],
)
def test_an_error_in_the_file_names_the_line_and_shows_no_key(
    file: Path, lines: tuple[str, ...], mistake: str
) -> None:
    with pytest.raises(NoMasterKey, match=mistake) as told:
        masters(file, *lines).wrapped(b"k" * 32, uuid4(), "ada")
    assert str(told.value).startswith(f"{VARIABLE}: {file}: ")
    assert not any(line in str(told.value) for line in lines if line != "plain")


@pytest.mark.parametrize(
    ("path", "mistake"),
    [("master-keys", "whole path"), ("/nowhere/master-keys", "No such file"), ("/", "directory")],
)
def test_a_missing_file_is_reported(path: str, mistake: str) -> None:
    with pytest.raises(NoMasterKey, match=mistake):
        MasterKeys(path).wrapped(b"k" * 32, uuid4(), "ada")
