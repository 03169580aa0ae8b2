"""Which Python a checkout is installed with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy import interpreter
from deploy.interpreter import fastest, least_seconds, main, others

NAME = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def script(path: Path, *lines: str) -> str:
    """Write a program; return its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return str(path)


def test_another_interpreter_must_be_clearly_faster() -> None:
    assert fastest({"ours": 1.0, "other": 0.5}, "ours") == "other"
    assert fastest({"ours": 1.0, "other": 0.9}, "ours") == "ours"
    assert fastest({"ours": 0.5, "other": 1.0}, "ours") == "ours"


def test_if_our_interpreter_fails_the_installation_says_why() -> None:
    assert fastest({"other": 0.5}, "ours") == "ours"
    assert fastest({}, "ours") == "ours"


def test_the_shortest_time_counts_and_failing_interpreters_are_left_out(tmp_path: Path) -> None:
    times = tmp_path / "times"
    times.write_text("3\n1\n2\n4\n5\n")
    works = script(tmp_path / "works", f"head -n 1 {times}", f"sed -i 1d {times}")
    fails = script(tmp_path / "fails", "echo 0.1", "exit 1")
    odd = script(tmp_path / "odd", "echo soon")
    last = script(tmp_path / "last", "echo 0.1", f"rm {tmp_path / 'last'}")
    gone = str(tmp_path / "gone")
    assert least_seconds([fails, odd, works, gone, last]) == {works: 1.0}


def test_each_other_interpreter_of_this_version_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = script(tmp_path / "a" / NAME, "exit 1")
    script(tmp_path / "a" / "python2.7", "exit 1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / NAME).symlink_to(one)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / NAME).symlink_to(sys.executable)  # the one that runs
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / NAME).touch()  # no program
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / each) for each in "abcd"))
    monkeypatch.setattr(interpreter, "FOLDERS", ())
    assert others() == [one]


def test_it_prints_an_interpreter_that_can_make_an_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(interpreter, "ROUNDS", 1)
    main()
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert Path(printed.out.strip()).name.startswith("python")
    assert bool(printed.err) == (printed.out.strip() != sys.executable)
