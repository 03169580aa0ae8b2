"""What deployment files ask of `rayfold`, against what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer.main

from deploy.cli.command_line import app
from deploy.stack.settings import Settings, TokenSettings
from eventstore.personal.master_keys import VARIABLE as MASTER_KEYS
from rayfold.runtime.ports import VARIABLE as RPC_PORTS


def check_command(words: Sequence[str]) -> None:
    """Assert that the command line has this command, with these options."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name, *rest = words
    asked = {word.partition("=")[0] for word in rest if word.startswith("--")}
    params = commands[name].params
    known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    assert asked <= known, f"rayfold {name} does not have {asked - known}"


def check_variables(env: Mapping[str, str]) -> None:
    """Assert that each `RAYFOLD_…` is a setting, of a stack or of a node, and that it fits."""
    names = {name for name in env if name.startswith("RAYFOLD_")}
    settings = {f"RAYFOLD_{name.upper()}" for name in Settings.model_fields}
    assert names <= settings | {RPC_PORTS, MASTER_KEYS}
    if "RAYFOLD_TOKENS" in env:
        tokens = json.loads(env["RAYFOLD_TOKENS"])
        assert {TokenSettings.model_validate(each).role for each in tokens.values()}


def check_ray_start(words: Sequence[str], options: Iterable[str]) -> None:
    """Assert that `ray start` is given what it knows."""
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert asked <= set(options), f"ray start does not have {asked - set(options)}"


HEALTH_CHECK = {
    "RAY_health_check_initial_delay_ms": 1000,
    "RAY_health_check_period_ms": 1000,
    "RAY_health_check_timeout_ms": 2000,
    "RAY_health_check_failure_threshold": 3,
}
"""Of a head: a silent node is taken for dead after 9 s."""

EVERY_NODE = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": 600,
    "RAY_prestart_worker_first_driver": 0,
}
"""Of all nodes and drivers: they wait for a head that is away, and for no idle workers."""


def check_ray_settings(env: Mapping[str, str], expected: Mapping[str, int]) -> None:
    """Assert that Ray is told these, among others, and that it knows them."""
    assert {name: env.get(name) for name in expected} == {n: str(v) for n, v in expected.items()}
    gcs = (_ray() / "core" / "src" / "ray" / "gcs" / "gcs_server").read_bytes()
    for name in expected:
        assert name.removeprefix("RAY_").encode() + b"\0" in gcs, (
            f"Ray does not have the setting {name}"
        )


def ray_start_options() -> set[str]:
    """Return the options of `ray start`, read from its sources: importing Ray takes seconds."""
    source = (_ray() / "scripts" / "scripts.py").read_text()
    start = source[source.index("\ndef start(") - 20_000 : source.index("\ndef start(")]
    return set(re.findall(r'"(--[a-z-]+)"', start[start.rindex("@cli.command(") :]))


def _ray() -> Path:
    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
