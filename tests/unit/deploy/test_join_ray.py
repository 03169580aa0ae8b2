"""`join-ray`: a command and the Ray node that it needs, each played by a script."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT

SCRIPT = ROOT / "deploy" / "container" / "join-ray"
ADDRESS = "127.{}.{}.{}".format(64 + (os.getpid() >> 16), *os.getpid().to_bytes(4, "big")[2:])
"""Of the node; on loopback, and nobody else's: not of the same tests in another process either."""

TIMEOUT = 60.0

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def raylet() -> Iterator[socket.socket]:
    """Return what listens where the node does."""
    with socket.create_server((ADDRESS, 6380)) as listening:
        yield listening


@pytest.fixture
def start(tmp_path: Path, raylet: socket.socket) -> Iterator[Start]:
    """Return what starts the script with a node and a command that are shell."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(node: str, command: str, **variables: str) -> subprocess.Popen[bytes]:
        programs = {
            "ray": f'[ "$1" = health-check ] && exit 0\necho "$@" > {tmp_path}/ray.args\n{node}',
            "rayfold": f'echo "$@" > {tmp_path}/rayfold.args\n{command}',
            "python": f"echo {ADDRESS}",
        }
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
            (tmp_path / name).chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        env = {"PATH": path, "RAYFOLD_RAY_ADDRESS": "ray-head:6379", **variables}
        words = [str(SCRIPT), "gateway", "--port", "8000"]
        started = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, start_new_session=True)
        processes.append(started)
        return started

    yield start
    for process in processes:
        process.terminate()
        process.wait(TIMEOUT)
        assert process.stdout is not None
        process.stdout.close()


FOREVER = "trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done"


def said(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of the command's."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_container_ends_with_the_commands_exit_code(start: Start, tmp_path: Path) -> None:
    node = tmp_path / "ray.args"
    # The script waits for the port, which something else holds here, not for its node's first line.
    command = f"until [ -s {node} ]; do sleep 0.05; done; exit 7"
    assert start(FOREVER, command).wait(TIMEOUT) == 7
    assert (tmp_path / "rayfold.args").read_text() == "gateway --port 8000\n"
    joined = node.read_text()
    assert joined.startswith(f"start --block --address=ray-head:6379 --node-ip-address={ADDRESS} ")
    assert "--num-cpus=0" in joined


def test_a_signal_reaches_the_command_which_ends_in_its_own_time(start: Start) -> None:
    slow = "trap 'sleep 0.3; echo ended; exit 3' TERM; echo up; while true; do sleep 0.05; done"
    process = start(FOREVER, slow)
    assert said(process) == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 3
    assert said(process) == b"ended\n"


def test_a_signal_reaches_the_command_before_the_script_has_noted_its_process(
    start: Start, tmp_path: Path
) -> None:
    up, early = tmp_path / "up", tmp_path / "early.bash"
    signals = f"until [ -e {up} ]; do sleep 0.05; done; kill -TERM $$"
    # Bash runs this before the script, and what it traps before each command of the script's.
    early.write_text(
        "[[ $0 = */join-ray ]] && "
        f"""trap 'if [ "$BASH_COMMAND" = command=\\$! ]; then {signals}; fi' DEBUG\n"""
    )
    command = f"trap 'exit 3' TERM; touch {up}; while true; do sleep 0.05; done"
    assert start(FOREVER, command, BASH_ENV=str(early)).wait(TIMEOUT) == 3


def test_a_node_that_ends_is_started_again_and_the_command_goes_on(
    start: Start, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    node = f"echo >> {starts}; [ $(wc -l < {starts}) -lt 3 ] && {{ sleep 0.2; exit 1; }}; {FOREVER}"
    command = f"until [ $(wc -l < {starts}) = 3 ]; do sleep 0.05; done; echo again; {FOREVER}"
    process = start(node, command)
    assert said(process) == b"again\n"
    assert said(process) == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 0


def test_a_node_that_never_comes_up_ends_the_container(start: Start, raylet: socket.socket) -> None:
    raylet.close()
    assert start("exit 1", FOREVER).wait(TIMEOUT) == 1
