"""Actors of a stack's own Ray are forks of one process, and start without it if it is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.integration.stack.orders import create
from tests.stack import Stack

DEADLINE = 60.0

NOTES = """
from uuid import UUID

from rayfold import Aggregate, Command, Event, Message, Route


class TakeNote(Command, name="take-note", creates=True):
    note_id: UUID


class Taken(Event, name="Taken"):
    note_id: UUID


class Nothing(Message):
    pass


class Note(
    Aggregate[Nothing, TakeNote, Taken],
    category="note",
    id_field="note_id",
    initial=Nothing(),
):
    @staticmethod
    def decide(state, command):
        return [Taken(note_id=command.note_id)]

    @staticmethod
    def evolve(state, event):
        return state


ROUTES = [Route("POST", "/notes", TakeNote)]
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module, as its fork server does not come back while its Ray runs."""
    folder: Path = tmp_path_factory.mktemp("forks")
    stack = Stack(folder / "data")
    stack.start()
    yield stack
    assert stack.stop() == 0


def processes(stack: Stack) -> Iterator[tuple[psutil.Process, str]]:
    """All of a stack's, but those that have just ended, each with its command."""
    for each in psutil.Process(stack.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            yield each, " ".join(each.cmdline())


def server(stack: Stack) -> psutil.Process:
    module = "-m deploy.raylet.fork_server_process"
    [found] = [each for each, command in processes(stack) if module in command]
    return found


def another_host(stack: Stack, but: psutil.Process | None = None) -> psutil.Process:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        hosts = [each for each, command in processes(stack) if command.startswith("ray::HostActor")]
        if hosts and but not in hosts:
            return hosts[0]
        time.sleep(0.05)
    raise AssertionError("no host started")


def write(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=DEADLINE) as http:
        create(http)


def take_note(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=DEADLINE) as http:
        answer = http.post("/notes", json={"note_id": str(uuid4())})
    assert answer.status_code == 202, answer.text


def test_every_actor_is_a_fork(alone: Stack) -> None:
    actors = [each for each, command in processes(alone) if "Actor" in command]
    assert len(actors) >= 4
    assert {each.ppid() for each in actors} == {server(alone).pid}


def test_no_agent_for_runtime_environments_runs_while_none_is_brought(alone: Stack) -> None:
    commands = [command for _, command in processes(alone)]
    assert [each for each in commands if "raylet/agent_when_asked.py" in each]
    assert not [each for each in commands if "RuntimeEnvAgent" in each]


def test_a_killed_actor_does_not_end_other_actors(alone: Stack) -> None:
    """A raylet kills the whole process group of a worker that has ended."""
    host = another_host(alone)
    others = [each for each, command in processes(alone) if "Actor" in command and each != host]
    host.kill()
    write(alone)
    again = another_host(alone, but=host)
    assert again.ppid() == server(alone).pid
    assert all(each.is_running() for each in others)


def test_without_the_fork_server_actors_start_as_ray_starts_them(alone: Stack) -> None:
    forks, host = server(alone), another_host(alone)
    forks.kill()
    forks.wait(DEADLINE)
    host.kill()
    write(alone)
    again = another_host(alone, but=host)
    assert psutil.Process(again.ppid()).name() == "raylet"


def test_an_actor_that_comes_back_has_the_domain_that_the_others_have(tmp_path: Path) -> None:
    """Although the files have changed since: only a new start brings another domain."""
    folder = tmp_path / "project"
    (folder / "desk").mkdir(parents=True)
    (folder / "desk" / "__init__.py").touch()
    source = folder / "desk" / "notes.py"
    source.write_text(NOTES)
    stack = Stack(tmp_path / "data", "--domain", "desk", folder=folder)
    stack.start()
    try:
        take_note(stack)
        host = another_host(stack)
        source.write_text(NOTES.replace("decide(", "changed("))
        host.kill()
        take_note(stack)
        assert another_host(stack, but=host).ppid() == server(stack).pid
    finally:
        assert stack.stop() == 0


def test_actors_with_a_runtime_environment_have_it(tmp_path: Path) -> None:
    environment = json.dumps({"env_vars": {"BROUGHT": "by the release"}})
    stack = Stack(tmp_path / "data", RAYFOLD_RUNTIME_ENV=environment)
    stack.start()
    try:
        write(stack)
        host = another_host(stack)
        assert psutil.Process(host.ppid()).name() == "raylet"
        assert host.environ()["BROUGHT"] == "by the release"
        assert [command for _, command in processes(stack) if "RuntimeEnvAgent" in command]
    finally:
        assert stack.stop() == 0
