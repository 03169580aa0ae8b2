"""`join-ray`: a command and the node that it stands on, each by a stand-in."""

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

Start = Callable[[str, str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts the script with a node and a command that are shell."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(node: str, command: str) -> subprocess.Popen[bytes]:
        programs = {
            "ray": f'[ "$1" = health-check ] && exit 0\necho "$@" > {tmp_path}/ray.args\n{node}',
            "rayfold": f'echo "$@" > {tmp_path}/rayfold.args\n{command}',
            "python": f"echo {ADDRESS}",
        }
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
            (tmp_path / name).chmod(0o755)
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RAYFOLD_RAY_ADDRESS": "ray-head:6379"}
        words = [str(SCRIPT), "gateway", "--port", "8000"]
        started = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, start_new_session=True)
        processes.append(started)
        return started

    with socket.create_server((ADDRESS, 6380)):  # the raylet
        yield start
    for process in processes:
        process.wait(TIMEOUT)
        assert process.stdout is not None
        process.stdout.close()


FOREVER = "trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done"


def said(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of the command's."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_commands_exit_code_is_the_containers(start: Start, tmp_path: Path) -> None:
    assert start(FOREVER, "exit 7").wait(TIMEOUT) == 7
    assert (tmp_path / "rayfold.args").read_text() == "gateway --port 8000\n"
    joined = (tmp_path / "ray.args").read_text()
    assert joined.startswith(f"start --block --address=ray-head:6379 --node-ip-address={ADDRESS} ")
    assert "--num-cpus=0" in joined


def test_a_signal_reaches_the_command_which_ends_in_its_own_time(start: Start) -> None:
    slow = "trap 'sleep 0.3; echo ended; exit 3' TERM; echo up; while true; do sleep 0.05; done"
    process = start(FOREVER, slow)
    assert said(process) == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 3
    assert said(process) == b"ended\n"


def test_without_its_node_the_command_is_told_to_end(start: Start, tmp_path: Path) -> None:
    go = tmp_path / "go"
    process = start(f"until [ -e {go} ]; do sleep 0.05; done; exit 1", FOREVER)
    assert said(process) == b"up\n"
    go.touch()
    assert process.wait(TIMEOUT) == 1


def test_a_node_that_ends_at_once_ends_the_container(start: Start) -> None:
    assert start("exit 1", FOREVER).wait(TIMEOUT) == 1
