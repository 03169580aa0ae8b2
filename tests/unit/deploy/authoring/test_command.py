"""`rayfold check`, as an author and CI call it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.command_line import app
from deploy.errors import StartError
from tests.documents import ROOT

EMPTY = '{"format": 1, "events": {}, "integration_events": {}}'
LOCK = ROOT / "events.lock.json"


def check(lock: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["check", "--lock", str(lock), *options])


def test_a_lock_is_written_when_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    first = check(file)
    assert first.exit_code == 1
    assert "rayfold check --update" in first.output
    assert not file.exists()
    assert check(file, "--update").exit_code == 0
    assert file.read_text() == LOCK.read_text()
    assert check(file).exit_code == 0


def test_a_lock_that_is_behind_says_so_and_passes(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    file.write_text(EMPTY)
    told = check(file)
    assert told.exit_code == 0
    assert "OrderPaid is new" in told.output


def test_a_refused_change_is_written_to_the_lock_only_with_force(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    damaged = LOCK.read_text().replace('"unit_price_cents": {', '"price": {')
    file.write_text(damaged.replace('"sku", "unit_price_cents"]', '"sku", "price"]'))
    before = file.read_text()
    told = check(file, "--update")
    assert told.exit_code == 1
    assert "LineAdded 1: unit_price_cents: old events have no value" in told.output
    assert "raise its version to 2 and write an upcaster" in told.output
    assert '@upcaster("LineAdded", from_version=1)' in told.output
    assert '"unit_price_cents": data["price"],  # integer' in told.output
    assert file.read_text() == before
    forced = check(file, "--update", "--force")
    assert forced.exit_code == 0
    assert "dropped: LineAdded 1" in forced.output
    assert file.read_text() == LOCK.read_text()


def test_an_event_of_another_category_is_refused_as_by_rayfold_up(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    file.write_text(LOCK.read_text().replace('["order"]', '["purchase"]'))
    before = file.read_text()
    told = check(file, "--update")
    assert told.exit_code == 1
    [line] = [each for each in told.output.splitlines() if "purchase" in each]
    assert line == (
        "FulfilmentRequested is of the category 'order' now, and streams of 'purchase' may be on"
        " the log: give its aggregate the category 'purchase' back"
    )
    assert file.read_text() == before
    assert check(file, "--update", "--force").exit_code == 0
    assert file.read_text() == LOCK.read_text()


def test_a_lock_of_an_earlier_release_gets_the_categories(tmp_path: Path) -> None:
    file = tmp_path / "lock.json"
    lines = LOCK.read_text().replace('"format": 2', '"format": 1').splitlines()
    file.write_text("\n".join(each for each in lines if '"categories"' not in each))
    told = check(file)
    assert told.exit_code == 0
    assert "LineAdded is of the category order" in told.output
    assert check(file, "--update").exit_code == 0
    assert file.read_text() == LOCK.read_text()


def test_a_lock_that_cannot_be_written_completely_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of another branch.json").write_text(EMPTY)
    file = tmp_path / "lock.json"
    file.symlink_to(tmp_path / "of another branch.json")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("deploy.stack.whole_file.os.fsync", full)
        assert isinstance(check(file, "--update").exception, StartError)
    assert file.read_text() == EMPTY
    assert check(file, "--update").exit_code == 0
    assert file.is_symlink()
    assert file.read_text() == LOCK.read_text()
    assert file.stat().st_mode & 0o044


def test_force_alone_is_refused(tmp_path: Path) -> None:
    assert isinstance(check(tmp_path / "lock.json", "--force").exception, StartError)


def test_ray_is_not_needed() -> None:
    code = (
        "import sys; sys.argv = ['rayfold', 'check']\n"
        "from deploy.cli.command_line import app\n"
        "app(standalone_mode=False)\n"
        "assert not {'ray', 'asyncpg', 'litestar'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("text", ["{", '{"format": 3, "events": {}, "integration_events": {}}'])
def test_an_unreadable_lock_is_not_reported_as_a_fault_of_the_code(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "lock.json"
    file.write_text(text)
    assert isinstance(check(file).exception, StartError)
