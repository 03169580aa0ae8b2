"""One process takes another's place, on a socket that clients connect to all the while."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.stack import succession
from deploy.stack.seat import Seat
from deploy.stack.succession import PAUSES, Succession
from tests.ports import free_port

TIMEOUT = 60.0

CHILD = """
import asyncio, os, signal
from deploy.stack.release import Release
from deploy.stack.seat import Seat
from deploy.stack.settings import Settings

async def main():
    seat = Seat.of_process()
    domain = seat.settled(Settings(domain="first")).domain
    if domain == "broken":
        raise SystemExit(3)
    if domain == "down":
        seat.taken_down()
        raise SystemExit(0)
    stop = asyncio.Event()
    if domain == "other code":  # than this host has
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        seat.wanted(Release(1, domain, "hash", {}))
        await stop.wait()
        raise SystemExit(0)
    if domain == "stuck":  # and sees that it is not wanted any more
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        seat.wanted(Release(2, "first", "hash", {}))
        await stop.wait()
        raise SystemExit(0)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    answering = set()

    async def serve(reader, writer):
        answering.add(writer)
        line = (await reader.readline()).decode().strip()
        if line:
            seat.wanted(Release(1, line, "hash", {}))
        writer.write(f"{domain} {os.getpid()}".encode())
        writer.close()
        try:
            await writer.wait_closed()
        finally:
            answering.discard(writer)

    server = await asyncio.start_server(serve, sock=seat.listening)
    seat.ready("http://127.0.0.1:1")
    retired = asyncio.Event()
    watching = asyncio.create_task(seat.watch(retired.set))
    await asyncio.wait(
        [asyncio.create_task(retired.wait()), asyncio.create_task(stop.wait())],
        return_when=asyncio.FIRST_COMPLETED,
    )
    server.close()
    for _ in range(20):  # turns of the loop in which one that was accepted comes to `serve`
        await asyncio.sleep(0)
    while answering:
        await asyncio.sleep(0.01)
    raise SystemExit(7 if stop.is_set() else 0)

asyncio.run(main())
"""

PARENT = """
import sys
from pathlib import Path
from deploy.stack.listening import bound
from deploy.stack.succession import hold
port = bound("127.0.0.1", int(sys.argv[2]), open_to_all=True, shared=True)
sys.exit(hold(["-c", sys.argv[3]], Path(sys.argv[1]), port))
"""


@pytest.fixture
def port() -> int:
    """Return one that is free."""
    return free_port()


@pytest.fixture
def parent(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Return a parent, which runs."""
    words = [sys.executable, "-c", PARENT, str(tmp_path / "data"), str(port), CHILD]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    yield process
    process.kill()
    process.wait(TIMEOUT)


async def ask(port: int, said: str = "") -> tuple[str, int]:
    """Return which domain answers, and which process.

    Whoever connects in the moment in which `CHILD` listens no more may be reset: it does not take
    in what has connected already, as a gateway does.
    """
    while True:
        with suppress(ConnectionResetError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{said}\n".encode())
            domain, pid = (await reader.read()).decode().split()
            writer.close()
            return domain, int(pid)


async def ask_first(port: int) -> tuple[str, int]:
    """Return the same, as soon as somebody listens."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                return await ask(port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


async def test_a_successor_takes_over_and_no_connection_is_refused(
    parent: subprocess.Popen[bytes], port: int, tmp_path: Path
) -> None:
    domain, first = await ask_first(port)
    assert domain == "first"
    await ask(port, "second")
    async with asyncio.timeout(TIMEOUT):
        while psutil.pid_exists(first) or (answer := await ask(port))[0] != "second":
            await ask(port)  # by either, and always
    assert {child.pid for child in psutil.Process(parent.pid).children()} == {answer[1]}
    assert "127.0.0.1:1" in (tmp_path / "data" / "gateway.json").read_text()
    parent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(parent.wait, TIMEOUT) == 7
    assert not psutil.pid_exists(answer[1])


async def test_a_successor_that_does_not_start_changes_nothing(
    parent: subprocess.Popen[bytes], port: int
) -> None:
    domain, first = await ask_first(port)
    await ask(port, "broken")
    async with asyncio.timeout(TIMEOUT):
        while len(psutil.Process(parent.pid).children()) != 2:
            assert await ask(port) == (domain, first)
        while len(psutil.Process(parent.pid).children()) != 1:
            assert await ask(port) == (domain, first)
    parent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(parent.wait, TIMEOUT) == 7


async def test_if_a_successor_is_told_that_the_stack_is_taken_down_no_process_remains(
    parent: subprocess.Popen[bytes], port: int
) -> None:
    """Otherwise the old process would start another successor, which would make the stack again."""
    _, first = await ask_first(port)
    await ask(port, "down")
    assert await asyncio.to_thread(parent.wait, TIMEOUT) in (0, 7)  # of whoever ended last
    assert not psutil.pid_exists(first)


async def test_a_successor_that_is_no_longer_wanted_makes_room_for_the_next(
    parent: subprocess.Popen[bytes], port: int
) -> None:
    domain, first = await ask_first(port)
    assert domain == "first"
    await ask(port, "stuck")
    async with asyncio.timeout(TIMEOUT):
        while len(psutil.Process(parent.pid).children()) != 2:
            assert await ask(port) == (domain, first)
        answer = domain, first
        while answer[0] != "second":
            answer = await ask(port, "second")
        while psutil.pid_exists(first):
            await ask(port)
    parent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(parent.wait, TIMEOUT) == 7
    assert not psutil.pid_exists(answer[1])


async def test_a_successor_with_the_wrong_code_is_tried_again_after_a_pause(
    parent: subprocess.Popen[bytes], port: int
) -> None:
    _, first = await ask_first(port)
    began: dict[int, float] = {}
    async with asyncio.timeout(TIMEOUT):
        while len(began) < 3:
            await ask(port, "other code")
            for child in psutil.Process(parent.pid).children():
                if child.pid != first:
                    began.setdefault(child.pid, child.create_time())
    times = sorted(began.values())
    # The clock of the kernel's that this is by has hundredths of a second.
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(pause > least - 0.1 for pause, least in zip(pauses, PAUSES, strict=False)), pauses


async def test_children_end_with_a_killed_parent(
    parent: subprocess.Popen[bytes], port: int
) -> None:
    _, pid = await ask_first(port)
    child = psutil.Process(pid)
    parent.kill()
    await asyncio.to_thread(child.wait, TIMEOUT)


@pytest.mark.parametrize("ends", ["before it is there", "before it answers signals"])
async def test_a_stop_while_the_first_process_starts_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    start = asyncio.create_subprocess_exec

    async def started(*words: str, **options: Any) -> asyncio.subprocess.Process:
        if ends == "before it is there":
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)  # the loop takes the signal
        process = await start(*words, **options)
        if ends == "before it answers signals":
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(succession.asyncio, "create_subprocess_exec", started)
    running = Succession(["-c", "import time; time.sleep(600)"], None, None).run()
    async with asyncio.timeout(TIMEOUT):
        assert await running == 0


async def test_a_killed_process_is_reported_as_shells_report_it() -> None:
    words = ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    async with asyncio.timeout(TIMEOUT):
        assert await Succession(words, None, None).run() == 137


REFUSED = """
from deploy.stack.release import Release
from deploy.stack.seat import Seat
Seat.of_process().wanted(Release(1, "first", "hash", {}, refused="it would serve less"))
raise SystemExit(2)
"""


async def test_a_process_whose_own_release_was_refused_ends_without_a_successor() -> None:
    """Each successor would end in the same way, and the next one would be started at once."""
    async with asyncio.timeout(TIMEOUT):
        assert await Succession(["-c", REFUSED], None, None).run() == 2


async def test_the_end_of_a_process_that_never_read_its_message_is_noticed() -> None:
    """A process that hangs is told to retire and killed later: the socket is reset then."""
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import time; time.sleep(600)"), pass_fds=[theirs.fileno()]
    )
    theirs.close()
    child = succession._Child("a", process, ours)
    heard: asyncio.Queue[Any] = asyncio.Queue()
    child.retire()
    child.signal(signal.SIGKILL)
    async with asyncio.timeout(TIMEOUT):
        await child.listen(heard)
    assert heard.get_nowait() == (child, {"ended": -signal.SIGKILL})


SAYS = """
import json, os, socket, sys
given = json.loads(os.environ["_RAYFOLD_SEAT"])
with socket.socket(fileno=given["control"]) as control:
    control.sendall(sys.argv[1].encode() + b"\\n")
raise SystemExit(7)
"""
"""A process that says something, and has its work done."""


async def test_if_no_successor_can_be_started_the_process_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = asyncio.create_subprocess_exec
    started: list[str] = []

    async def started_once(*words: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(options["env"]["_RAYFOLD_SEAT"])
        if len(started) > 1:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return await start(*words, **options)

    monkeypatch.setattr(succession.asyncio, "create_subprocess_exec", started_once)
    wanted = json.dumps({"domain": "second", "runtime_env": {}})
    async with asyncio.timeout(TIMEOUT):
        assert await Succession(["-c", SAYS, wanted], None, None).run() == 7
    assert len(started) == 2


async def test_a_process_serves_although_its_address_cannot_be_written(tmp_path: Path) -> None:
    """A full disk or a removed folder must not end a process that serves."""
    ready = json.dumps({"ready": "http://127.0.0.1:1"})
    async with asyncio.timeout(TIMEOUT):
        assert await Succession(["-c", SAYS, ready], tmp_path / "gone", None).run() == 7


async def test_a_parent_ignores_unknown_messages_of_newer_processes() -> None:
    """It is not replaced in an upgrade; if it ended, all its processes would end."""
    async with asyncio.timeout(TIMEOUT):
        assert await Succession(["-c", SAYS, json.dumps({"new": 1})], None, None).run() == 7


def test_old_parents_understand_that_the_stack_was_taken_down() -> None:
    ours, theirs = socket.socketpair()
    Seat({"control": theirs.detach()}).taken_down()
    # They started a successor for all but this word, and died of what did not say for which.
    assert json.loads(ours.recv(1000)) == {"down": True, "refused": True}
    ours.close()
