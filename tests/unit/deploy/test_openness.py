"""`rayfold doctor`: what the settings leave open, each with what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli.command_line import app
from deploy.stack.openness import what_is_open
from deploy.stack.settings import load

CLOSED: dict[str, Any] = {
    "tokens": {"web": {"token": "a-long-random-text-of-ours", "role": "writer"}},
    "rates": {"default": "100/second"},
    "eventstore": "kurrentdb://user:secret@store.example:2113",
    "postgres": "postgresql://rayfold@db.example/shop?sslmode=verify-full",
    "ray_address": "10.0.0.1:6379",
}
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAYFOLD_RPC_PORTS": "20000-20999"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(environment: dict[str, str] | None = None, **changes: Any) -> list[str]:
    settings = load(**{**CLOSED, **changes})
    return [
        each.what
        for each in what_is_open(settings, ENVIRONMENT if environment is None else environment)
    ]


def test_a_closed_stack_has_no_findings() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": {}}, "whoever reaches 127.0.0.1:8000 can send commands"),
        ({"rates": {}}, "as much as it likes"),
        ({"host": "10.0.0.7"}, "tokens travel in the clear"),
        (
            {"eventstore": "kurrentdb://u:p@store.example:2113?tls=false"},
            "events travel in the clear",
        ),
        ({"eventstore": "kurrentdb://store.example:2113"}, "does not authenticate"),
        ({"postgres": "postgresql://rayfold@db.example/shop"}, "rows may travel in the clear"),
        ({"postgres": "postgresql://db.example/shop?sslmode=prefer"}, "rows may travel"),
        ({"postgres": "host=db.example dbname=shop"}, "rows may travel"),
        ({"postgres_reads": ["postgresql://db2.example/shop"]}, "db2.example"),
    ],
)
def test_each_open_thing_is_reported_by_itself(changes: dict[str, Any], words: str) -> None:
    (only,) = found(**changes)
    assert words in only


def test_servers_that_only_this_machine_reaches_are_not_open() -> None:
    changes = {"eventstore": "kurrentdb://127.0.0.1:2113?tls=false", "ray_address": None}
    assert found({}, **changes, postgres="postgresql:///shop?host=/run/postgresql") == []
    assert found({}, **changes, postgres="host=localhost dbname=shop") == []
    assert found({}, **changes, postgres="host=db.example sslmode=require dbname=shop") == []


def test_rays_ports_are_open_without_a_token() -> None:
    first, second = found({})
    assert "can run code" in first
    assert "any port" in second


def test_files_that_others_can_read_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "rayfold.toml"
    file.write_text("port = 8001")
    file.chmod(0o644)
    assert found() == ["others on this machine may read rayfold.toml"]
    changes: dict[str, Any] = {"tokens": {}, "eventstore": None, "postgres": None}
    with_none = found(**changes)
    for each in (
        {"eventstore": "kurrentdb://user:secret@127.0.0.1:2113"},
        {"postgres": "postgresql://rayfold:secret@127.0.0.1/shop"},
        {"postgres": "host=127.0.0.1 dbname=shop password=secret"},
        {"redis": "redis://:secret@127.0.0.1"},
    ):
        told = "others on this machine may read rayfold.toml"
        assert sorted([*with_none, told]) == sorted(found(**{**changes, **each}))
    file.chmod(0o600)
    assert found() == []


def test_a_folder_that_others_may_only_pass_through_is_closed(tmp_path: Path) -> None:
    """As the folder of root is, for Postgres' own user."""
    data = tmp_path / ".rayfold"
    data.mkdir()
    data.chmod(0o755)
    assert found() == ["others on this machine may read .rayfold"]
    data.chmod(0o711)
    assert found() == []


def test_the_command_says_so_and_exits_with_one() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "set [tokens.NAME] or [jwt]" in result.output
    assert result.output.splitlines()[-1] == "2 open"
