"""Whatever happens in whatever order, a store has what a fresh fold of the log says.

`RAYFOLD_STORE_EXAMPLES=500` tries so many histories of each store.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.deletions import with_deletions
from eventstore.memory import MemoryLog
from tests.contract.stores.checks import differences
from tests.contract.stores.conftest import MakeEmpty
from tests.contract.stores.faults import Cuts, RepeatingLog
from tests.contract.stores.shelf import Painted, Put, Shelf, Taken, registry_for, write
from tests.contract.stores.subjects import Durable, InMemory, running

EXAMPLES = int(os.environ.get("RAYFOLD_STORE_EXAMPLES", "6"))

# No NUL: no client may send one, and Postgres has no such text.
KEYS = st.sampled_from(["a", "b", "é{}", 'c "\n', "\x01d"])
TEXTS = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=3)
NAMES = st.sampled_from(["tea", "", "=\x01", "tea\x01", "TEA"]) | TEXTS
COLOURS = st.none() | st.sampled_from(["red", "black", "{red}", "*"])
SIZES = st.sampled_from([0, 1, -1, 2**53 + 1, 2**70, -(2**70)])

EVENTS = st.one_of(
    st.builds(Put, id=KEYS, name=NAMES, colour=COLOURS, size=SIZES),
    st.builds(Painted, id=KEYS, colour=COLOURS),
    st.builds(Taken, id=KEYS),
)


class Does(NamedTuple):
    """What happens beside events."""

    what: str
    how: Any = None


OPERATIONS = st.one_of(
    st.lists(EVENTS, min_size=1, max_size=12),
    st.sampled_from(
        [
            Does("restart"),
            Does("rival"),
            Does("rebuild"),
            Does("delete", "a"),
            Does("delete", "b"),
            Does("replay"),
            Does("mend"),
            Does("break"),
            Does("wait"),
        ]
    ),
    st.builds(Does, st.just("cut anew"), st.integers(1, 3)),
    st.builds(
        Does, st.just("cuts"), st.lists(st.sampled_from(["", "before", "after"]), max_size=4)
    ),
)

HISTORIES = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def happens(store: Durable, cuts: Cuts, each: Any) -> None:
    """Do it, whatever else is going on."""
    if isinstance(each, list):
        await write(store.log, *each)
        return
    match each.what:
        case "restart":
            await store.end()
            store.begin(store_partitions(store))
        case "rival":
            store.begin(store_partitions(store))
        case "rebuild":
            await store.rebuild("shelf")
        case "delete":
            await store.log.delete_stream(f"thing-{each.how}")
        case "replay":
            for projector in store.projectors:
                keys = [each.key for each in projector.parked() if each.view == "shelf"]
                with suppress(Exception):  # as below
                    await projector.replay_all("shelf", keys[1:])
                for parked in projector.parked():
                    try:
                        await projector.replay(parked.view, parked.key)
                    except Exception:  # it is parked no more, or the connection is cut
                        continue
        case "mend":
            Shelf.broken = set()
        case "break":
            Shelf.broken = {"black"}
        case "wait":
            await asyncio.sleep(0.02)
        case "cut anew":
            store.cut_into = each.how  # type: ignore[attr-defined]
            await store.cut(each.how)
        case "cuts":
            cuts.plan = [*each.how]


def store_partitions(store: Durable) -> int:
    return int(getattr(store, "cut_into", 1))


@HISTORIES
@given(history=st.lists(OPERATIONS, min_size=2, max_size=14))
def test_rows_and_pages_are_those_of_the_log_whatever_happened(
    kind: str, make_empty: MakeEmpty, history: list[Any]
) -> None:
    async def run() -> None:
        make = await make_empty()
        cuts = Cuts()
        store = Durable(RepeatingLog(), registry_for(make().name), make, cuts.wrap)
        Shelf.broken = set()
        async with running(store):
            for each in history:
                await happens(store, cuts, each)
            cuts.plan = []
            # What is parked is folded again from the beginning, by who reads all of the log too.
            Shelf.broken = set()
            await store.rebuild("shelf")
            await store.reached(await store.log.end_position(with_deletions(["thing-"])))
            assert store.parked() == []
            assert await differences(store.log, store) == []

    asyncio.run(run())


@HISTORIES
@given(history=st.lists(st.lists(EVENTS, min_size=1, max_size=12), max_size=6))
def test_a_memory_replica_too(history: list[Any]) -> None:
    async def run() -> None:
        log = MemoryLog()
        store = InMemory(log, registry_for("memory"))
        async with running(store):
            for each in history:
                await write(log, *each)
                await store.rebuild("shelf")
            await store.reached(await log.end_position(["thing-"]))
            assert await differences(log, store) == []

    asyncio.run(run())
