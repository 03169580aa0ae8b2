"""A stack that publishes to a webhook that fails and dies, and to NATS: all there, none twice.

`RAYFOLD_PUBLICATIONS_LONG=1` publishes 1,000 events to each, and kills the publishing actors too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.publications.receiver import ReceiverProcess, wait_for
from tests.nats_server import NatsServer
from tests.stack import Stack, run_rayfold

ROOT = Path(__file__).resolve().parents[3]
SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0IQ=="
LONG = "RAYFOLD_PUBLICATIONS_LONG" in os.environ
KEYS = 40 if LONG else 16
EACH = 25 if LONG else 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of everything."""
    return tmp_path_factory.mktemp("publications")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[NatsServer]:
    """A nats-server with a stream."""
    server = NatsServer(folder)
    server.start()
    asyncio.run(server.make_stream("SHOP", "shop"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def receiver(folder: Path) -> Iterator[ReceiverProcess]:
    """A receiver that fails a third of the time."""
    receiver = ReceiverProcess(folder / "taken", SECRET, 1 / 3)
    receiver.start()
    yield receiver
    receiver.kill()


@pytest.fixture(scope="module")
def stack(folder: Path, server: NatsServer, receiver: ReceiverProcess) -> Iterator[Stack]:
    """Run the domain with both configured."""
    publications = {
        "to-webhook": {
            "url": receiver.url,
            "secret": SECRET,
            "private_addresses": True,
            "timeout": 5,
            "park_after": 3,
            "retry_parked": 1,
        },
        "to-nats": {"nats": [server.url], "subject": "shop"},
    }
    stack = Stack(
        folder / "data",
        RAYFOLD_DOMAIN="tests.integration.publications.notices",
        RAYFOLD_PUBLICATIONS=json.dumps(publications),
        NOTICES_FOLDER=str(folder),
        PYTHONPATH=str(ROOT),
    )
    stack.start()
    yield stack
    with suppress(ProcessLookupError):
        stack.stop()


async def pin(stack: Stack, board: str, *numbers: int) -> None:
    """Pin notes to a board, one after the other."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
        for number in numbers:
            answer = await http.post("/commands/pin", json={"board": board, "number": number})
            assert answer.status_code == 202, answer.text


def part(stack: Stack, name: str) -> dict[str, Any]:
    """Return a part of the status."""
    parts = httpx.get(f"{stack.url}/operators/status", timeout=60).json()["parts"]
    return next(each for each in parts if each["part"] == name)


def in_order(taken: list[dict[str, Any]], each: int) -> None:
    """Check that all are there: in order of each key, and twice with the same id alone."""
    ids: dict[str, Any] = {}
    numbers: dict[str, list[int]] = {}
    for told in taken:
        if told["id"] not in ids:
            numbers.setdefault(told["subject"], []).append(told["data"]["number"])
        assert ids.setdefault(told["id"], told) == told
    assert numbers == {f"board {key}": list(range(each)) for key in range(KEYS)}


async def test_all_events_arrive_in_order_and_repeats_have_the_same_id(
    stack: Stack, server: NatsServer, receiver: ReceiverProcess
) -> None:
    pinning = [asyncio.create_task(pin(stack, f"board {key}", *range(EACH))) for key in range(KEYS)]
    for kill in range(2):
        wanted = (kill + 1) * KEYS * EACH // 4
        await asyncio.to_thread(
            wait_for, lambda wanted=wanted: len(receiver.taken()) > wanted, "the receiver has some"
        )
        receiver.kill()
        if LONG:
            pid = await asyncio.to_thread(part, stack, "publication:to-webhook")
            os.kill(pid["pid"], signal.SIGKILL)
            os.kill(
                (await asyncio.to_thread(part, stack, "publication:to-nats"))["pid"], signal.SIGKILL
            )
        receiver.start()
    await asyncio.gather(*pinning)
    await asyncio.to_thread(wait_for, lambda: _all_there(receiver), "the receiver has all", 120.0)
    taken = receiver.taken()
    in_order(taken, EACH)
    print(f"webhook: {KEYS * EACH} events, {len(taken)} taken")
    in_order(await stored_at_least(server, KEYS * EACH), EACH)


async def stored_at_least(server: NatsServer, number: int) -> list[dict[str, Any]]:
    """Return what NATS has stored, once it is so much."""
    async with asyncio.timeout(60):
        while len(stored := await server.messages("SHOP")) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return [json.loads(data) for _, _, data in stored]


def _all_there(receiver: ReceiverProcess) -> bool:
    return len({told["id"] for told in receiver.taken()}) == KEYS * EACH


async def test_nothing_is_published_again_by_a_rebuild_or_a_restart(
    stack: Stack, server: NatsServer, receiver: ReceiverProcess
) -> None:
    wait_for(lambda: _rests(stack), "all is taken")
    run_rayfold(stack, "rebuild", "boards")
    stack.stop()
    before, stored = len(receiver.taken()), len(await server.messages("SHOP"))
    stack.start()
    await asyncio.gather(*(pin(stack, f"board {key}", EACH) for key in range(KEYS)))
    wait_for(
        lambda: len({told["id"] for told in receiver.taken()}) == KEYS * (EACH + 1), "the marks"
    )
    in_order(receiver.taken(), EACH + 1)
    again = [told for told in receiver.taken()[before:] if told["data"]["number"] < EACH]
    assert again == []
    after = (await stored_at_least(server, stored + KEYS))[stored:]
    assert {told["data"]["number"] for told in after} == {EACH}


def _rests(stack: Stack) -> bool:
    found = [part(stack, f"publication:{name}") for name in ("to-webhook", "to-nats")]
    return all(each["waiting"] == each["parked"] == 0 for each in found)


async def test_operators_see_and_replay_publications(stack: Stack, server: NatsServer) -> None:
    wait_for(lambda: _rests(stack), "what was parked is taken")
    listed = json.loads(run_rayfold(stack, "publications", "list", "--json"))["publications"]
    found = {each["publication"]: each for each in listed}
    assert found["to-nats"]["status"] == "running"
    assert found["to-nats"]["target"] == f"nats://127.0.0.1:{server.port}/shop"
    assert found["to-webhook"]["carries"] == ["boards.note"]
    assert found["to-webhook"]["parked"] == []
    assert SECRET not in json.dumps(listed)
    stored = len(await server.messages("SHOP"))
    again = run_rayfold(stack, "publications", "replay", "to-nats", "--after", "0")
    assert f"{stored} published again, 0 keys failed" in again
    assert len(await server.messages("SHOP")) == stored  # by their ids
    said = run_rayfold(stack, "publications", "replay", "nobody", code=2)
    assert "no publication is named 'nobody'" in said
    node = part(stack, "publication:to-nats")["node"]
    assert node


def test_events_of_no_publication_or_reactor_cause_no_lag(stack: Stack) -> None:
    names = ("to-webhook", "to-nats", "filing")
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        for _ in range(30):  # long enough for a lag to be told, were it one
            answer = http.post("/commands/tidy", json={"board": "b"})
            assert answer.status_code == 202
            time.sleep(0.1)
        end = answer.json()["position"]

        def at_rest() -> bool:
            parts = http.get("/operators/status").json()["parts"]
            told = {part["part"].partition("#")[0]: part for part in parts}
            mine = [told[f"publication:{name}"] for name in names[:2]] + [told["reactor:filing"]]
            return told["memory:all"]["position"] >= end and all(
                (part["ready"], part["lag"], part["lag_seconds"]) == (True, 0, 0.0) for part in mine
            )

        wait_for(at_rest, "nothing is behind")
        for name in names:
            told = http.get(f"/operators/explain/{name}").json()
            late = [each for each in told["findings"] if each["cause"] != "parked"]
            assert late == [], told["sentence"]


async def test_a_reactor_parks_what_fails_and_does_the_rest(stack: Stack, folder: Path) -> None:
    await pin(stack, "files", 1)  # there is no folder yet
    wait_for(lambda: "filing" in run_rayfold(stack, "parked", "list"), "it is parked")
    assert "0@board-files" in run_rayfold(stack, "parked", "list")
    (folder / "files").mkdir()
    await pin(stack, "files", 2)
    notes = folder / "files" / "notes"
    wait_for(lambda: notes.exists() and len(notes.read_text().splitlines()) == 1, "the second")
    assert (
        run_rayfold(stack, "parked", "replay", "filing") == "reactor filing 0@board-files: folded\n"
    )
    first, second = sorted(line.split()[1:] for line in notes.read_text().splitlines())
    assert (first, second) == (["1", "3"], ["2", "1"])
    assert "0 parked" in run_rayfold(stack, "parked", "list")
    run_rayfold(stack, "scale", "reactor:filing", "2")
    await pin(stack, "files", 3, 4)
    wait_for(lambda: len(notes.read_text().splitlines()) == 4, "the others")
    ids = [line.split()[0] for line in notes.read_text().splitlines()]
    assert len(set(ids)) == 4
