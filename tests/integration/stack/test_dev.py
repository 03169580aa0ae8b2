"""`rayfold new` and `rayfold dev`, as an author has them: served, changed, broken, mended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.ports import free_port
from tests.stack import START, STOP, rayfold, select_readable


class Dev:
    """`rayfold dev` in a folder."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.process = subprocess.Popen(
            [*rayfold(), "dev", "--port", str(port)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._said = b""

    def says(self, text: str) -> None:
        """Read on until it has said this."""
        assert self.process.stdout is not None
        until = time.monotonic() + START
        while text.encode() not in self._said:
            assert time.monotonic() < until, f"{text!r} was not printed\n{self._said.decode()}"
            assert self.process.poll() is None, self._said.decode()
            self._said += self.process.stdout.read() or b""
            select_readable(self.process.stdout.fileno(), 0.2)
        self._said = self._said.partition(text.encode())[2]

    def family(self) -> list[psutil.Process]:
        """Return the processes that it has started, and those that they have."""
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An author's folder, after `rayfold new bank`."""
    folder = tmp_path_factory.mktemp("author")
    subprocess.run([*rayfold(), "new", "bank"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    """`rayfold dev` in it."""
    running = Dev(folder)
    family: list[psutil.Process] = []
    try:
        yield running
        family = running.family()
    finally:
        running.process.terminate()
        code = running.process.wait(STOP)
        for process in psutil.wait_procs(family, timeout=STOP)[1]:
            process.kill()
            raise AssertionError(f"{process} still runs")
    assert code == 0


def edit(file: Path, before: str, after: str) -> None:
    """Put one for the other, once."""
    source = file.read_text()
    assert source.count(before) == 1
    file.write_text(source.replace(before, after))


def test_a_change_is_served_with_the_data_of_before_and_a_mistake_is_told(
    folder: Path, dev: Dev
) -> None:
    dev.says("ready http://")
    assert dev.http.post("/accounts", json={"account_id": "a1", "owner": "ada"}).is_success
    withdraw = {"url": "/accounts/a1/withdrawals", "json": {"cents": 100}}
    assert dev.http.post(**withdraw).json()["code"] == "insufficient-funds"  # type: ignore[arg-type]

    rules = folder / "bank" / "account.py"
    edit(
        rules, "command.cents > state.balance_cents:", "command.cents > state.balance_cents + 150:"
    )
    dev.says("ready http://")
    wait = {"Prefer": "wait=10"}
    assert dev.http.post(**withdraw, headers=wait).is_success  # type: ignore[arg-type]
    assert dev.http.get("/accounts/a1").json()["balance_cents"] == -100

    edit(rules, "+ 150:", "+ 1000")
    dev.says("rayfold: cannot import bank.account: SyntaxError")
    dev.says("the previous code is still served")
    assert dev.http.post(**withdraw).json()["code"] == "insufficient-funds"  # type: ignore[arg-type]

    edit(rules, "+ 1000", "+ 1000:")
    dev.says("ready http://")
    assert dev.http.post(**withdraw, headers=wait).is_success  # type: ignore[arg-type]
    assert dev.http.get("/accounts/a1").json()["balance_cents"] == -200


def test_a_mistake_at_the_start_is_waited_for_and_nothing_outlives_a_kill(folder: Path) -> None:
    routes = folder / "bank" / "routes.py"
    source = routes.read_text()
    routes.write_text(source + "(\n")
    dev = Dev(folder)
    try:
        dev.says("rayfold: cannot import bank.routes: SyntaxError")
        dev.says("waiting for the next change")
        routes.write_text(source)
        dev.says("ready http://")
    finally:
        family = dev.family()
        dev.process.send_signal(signal.SIGKILL)
        dev.process.wait(STOP)
    assert family
    left = psutil.wait_procs(family, timeout=STOP)[1]
    for process in left:
        process.kill()
    assert left == []
