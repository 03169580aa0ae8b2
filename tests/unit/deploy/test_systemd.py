"""The units of `deploy/systemd/`: as systemd reads them, and as Rayfold and Ray can be started."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.unit.deploy.manifests import (
    EVERY_NODE,
    HEALTH_CHECK,
    check_command,
    check_ray_settings,
    check_ray_start,
    check_variables,
    ray_start_options,
)

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
BIN = "/opt/rayfold/bin/"

KNOWN = {
    "Unit": {"Description", "After", "Wants", "StartLimitIntervalSec", "Conflicts"},
    "Install": {"WantedBy"},
    "Service": {
        *("Type", "User", "Group", "WorkingDirectory", "EnvironmentFile", "Environment"),
        *("StateDirectory", "StateDirectoryMode", "UMask", "LimitNOFILE", "TasksMax"),
        *("ExecStart", "Restart", "RestartSec", "TimeoutStopSec", "KillMode", "OOMPolicy"),
        *("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices"),
        *("ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups"),
        *("RestrictAddressFamilies", "RestrictSUIDSGID", "LockPersonality"),
    },
}


def parsed(unit: Path) -> dict[str, dict[str, list[str]]]:
    """Return a unit's settings by section; lines that go on are joined."""
    sections: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in unit.read_text().replace("\\\n", " ").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
            sections[section] = {}
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            sections[section].setdefault(name, []).append(value)
    return sections


def environment() -> dict[str, str]:
    """Return what the example of the environment file says."""
    lines = (FOLDER / "rayfold.env.example").read_text().splitlines()
    pairs = [shlex.split(line)[0].split("=", 1) for line in lines if re.match(r"\w+=", line)]
    return dict(pairs)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_has_only_what_systemd_knows(unit: Path, tmp_path: Path) -> None:
    for section, settings in parsed(unit).items():
        assert set(settings) <= KNOWN[section]
    if (verify := shutil.which("systemd-analyze")) is None:
        return
    # It looks for what is started, too: stand-ins, where no Rayfold is installed.
    for name in ("ray", "rayfold"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    for each in UNITS:
        (tmp_path / each.name).write_text(each.read_text().replace(BIN, f"{tmp_path}/"))
    command = [verify, "verify", "--man=no", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_restarts_and_has_no_needless_rights(unit: Path) -> None:
    service, general = parsed(unit)["Service"], parsed(unit)["Unit"]
    assert service["User"] == ["rayfold"]
    assert service["Restart"] == ["always"]
    assert general["StartLimitIntervalSec"] == [
        "0"
    ]  # a store that is away for an hour is waited for
    assert service["ProtectSystem"] == ["strict"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert int(service["TimeoutStopSec"][0]) > 30  # in which a raylet drains


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_an_existing_command(unit: Path) -> None:
    service = parsed(unit)["Service"]
    [started] = service["ExecStart"]
    program, *words = shlex.split(started)
    assert set(re.findall(r"\$\{(\w+)\}", started)) <= set(environment())
    if program == f"{BIN}rayfold":
        check_command(words)
    else:
        assert (program, words[:1]) == (f"{BIN}ray", ["start"])
        check_ray_start(words[1:], ray_start_options())
    for line in service["Environment"]:
        check_variables(dict(word.split("=", 1) for word in line.split()))


def test_the_example_environment_has_existing_settings() -> None:
    env = environment()
    ours = {name: env.pop(name) for name in ("RAYFOLD_NODE_IP", "RAYFOLD_CPUS")}
    assert all(ours.values())  # the units' own, for `ray start`
    check_variables(env)
    assert env["RAY_AUTH_MODE"] == "token"
    assert env["RAY_AUTH_TOKEN"] == ""


def test_a_silent_node_is_detected_and_a_missing_head_is_waited_for() -> None:
    head = parsed(FOLDER / "rayfold-ray-head.service")["Service"]["Environment"]
    words = [word.split("=", 1) for line in head for word in line.split()]
    check_ray_settings(dict(words), HEALTH_CHECK)
    check_ray_settings(environment(), EVERY_NODE)
