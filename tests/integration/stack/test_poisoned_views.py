"""Views that break on a running stack: what goes on, what operators see, how it is mended.

How long things take is printed, and asserted where `RAYFOLD_CHAOS_KILLS` is set.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from tests.integration.stack.meters.readings import LONG
from tests.integration.stack.test_command_line import run
from tests.stack import Stack, rayfold, run_rayfold

ASKED_FOR = "RAYFOLD_CHAOS_KILLS" in os.environ

DEADLINE = 60.0
"""Seconds for whatever is waited for."""

LAG = 1.0
"""Seconds until what was written is seen in views that are not broken."""

READY = 10.0
"""Seconds from the start to an answer of every view, over a log with poison in it.

Ray's own start comes on top: five seconds, or thirty more when it has to be tried again, which
is about one in fifty and has nothing to do with what is in the log.
"""

SOUND = (("counts", "memory"), ("counts", "postgres"), ("tallies", "postgres"))
"""Views that never break, by the store that is asked."""


class Poison(NamedTuple):
    """A reading, and where it is parked, with what the reason says."""

    meter: str
    reading: dict[str, Any]
    parked: set[tuple[str, str, str]]
    reason: str


POISON = [
    Poison("fold", {"units": 13}, {("memory", "sums", "fold"), ("postgres", "sums", "fold")}, "13"),
    Poison("huge", {"units": 2**70}, {("postgres", "latest", "huge")}, "out of int64 range"),
    Poison(
        "nul",
        {"units": 1, "label": "a%00b"},
        {("postgres", "latest", "nul"), ("postgres", "labels", "a\0b")},
        "invalid byte sequence",
    ),
    Poison("long", {"units": 1, "label": "LONG"}, {("postgres", "labels", LONG)}, "index row"),
]


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    """The file without which a view's code breaks."""
    return tmp_path / "mended"


@pytest.fixture
def meters(tmp_path: Path, mended: Path) -> Iterator[Stack]:
    """`rayfold up` with the meters."""
    stack = Stack(
        tmp_path / "data",
        RAYFOLD_DOMAIN="tests.integration.stack.meters",
        METERS_MENDED=str(mended),
    )
    stack.start()
    yield stack
    assert stack.stop() == 0


def test_a_poisoned_view_delays_no_other_and_is_repaired_by_replay(
    meters: Stack, mended: Path
) -> None:
    with httpx.Client(base_url=meters.url, timeout=60) as http:
        for at in range(50):  # rows that must not be lost beside the broken ones
            read_meter(http, f"before-{at}", 1)
        before = lags(http, 20)
        for each in POISON:
            read_meter(http, each.meter, 1)
            read_meter(http, each.meter, **each.reading)
            until_parked(http, each)  # with what comes next it would be another row
            token = read_meter(http, each.meter, 2)
        during = lags(http, 100)
        print("median, maximum in ms:", told(before), told(during))
        assert not ASKED_FOR or max(map(max, during.values())) < LAG
        assert_confined(meters, http, token)

    for crash in (False, True):
        if crash:
            meters.kill()
        else:
            assert meters.stop() == 0
        begun = time.monotonic()
        meters.start()
        with httpx.Client(base_url=meters.url, timeout=60) as http:
            until_all_answer(http)
            took, ray = time.monotonic() - begun, seconds_of_ray(meters)
            print("killed" if crash else "stopped", f"ready after {took:.1f} s, Ray {ray} s")
            assert not ASKED_FOR or took - ray < READY
            after = lags(http, 20)
            print("median, maximum in ms:", told(after))
            assert not ASKED_FOR or max(map(max, after.values())) < LAG
            assert_confined(meters, http, token)

    with httpx.Client(base_url=meters.url, timeout=60) as http:
        code, said = replay(meters, "sums", "fold")
        assert (code, said.count("still parked")) == (1, 2)
        mended.touch()
        code, said = replay(meters, "sums", "fold")
        assert (code, said.count("folded")) == (0, 2), said
        # What a store did not take it takes when later events have made it another row.
        for meter in ("huge", "nul"):
            assert replay(meters, "latest", meter)[0] == 0
        left = http.get("/operators/verify").json()["differences"]
        assert {(each["view"], each["key"]) for each in left} == {
            ("labels", "a\0b"),
            ("labels", LONG),
        }
        for store in ("memory", "postgres"):
            assert ask(http, "/sums/fold", store)["units"] == 16
            assert ask(http, "/latest/huge", store)["units"] == 2
        # Under some keys it never will.
        assert "a\\u0000b" in run_rayfold(meters, "parked", "list")
        for key in ("a\\u0000b", LONG):
            assert replay(meters, "labels", key)[0] == 1
            run_rayfold(meters, "parked", "discard", "labels", key)
        # What one store has not taken, and the other has, is discarded in both.
        read_meter(http, "last", 1)
        read_meter(http, "last", 2**70)
        until_parked(http, Poison("last", {}, {("postgres", "latest", "last")}, ""))
        run_rayfold(meters, "parked", "discard", "latest", "last")
        for store in ("memory", "postgres"):
            assert ask(http, "/latest/last", store)["units"] == 1
        assert http.get("/operators/verify").json() == {"differences": []}
        assert parked(http) == set()
        deadline = time.monotonic() + DEADLINE
        while poison(http):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def read_meter(http: httpx.Client, meter: str, units: int, label: str = "a") -> str:
    """Return the token of the reading."""
    answer = http.post(f"/meters/{meter}/readings", json={"units": units, "label": label})
    assert answer.status_code == 202, answer.text
    return answer.headers["consistency-token"]


def ask(http: httpx.Client, path: str, store: str, token: str = "0") -> dict[str, Any]:
    """Return the row, as of the token."""
    headers = {"Rayfold-Store": store, "Consistency-Token": token, "Prefer": "wait=30"}
    answer = http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def lags(http: httpx.Client, readings: int) -> dict[tuple[str, str], list[float]]:
    """Return the seconds from each receipt until the reading is seen, by view and store."""
    seconds: dict[tuple[str, str], list[float]] = {each: [] for each in SOUND}
    meter = uuid4().hex
    for at in range(readings):
        view, store = SOUND[at % len(SOUND)]
        token = read_meter(http, meter, 1)
        begun = time.monotonic()
        row = ask(http, f"/{view}/{meter}", store, token)
        seconds[view, store].append(time.monotonic() - begun)
        assert row["times"] == at + 1
    return seconds


def told(seconds: dict[tuple[str, str], list[float]]) -> dict[str, str]:
    """Return median and maximum in milliseconds, to be read by people."""
    return {
        "/".join(at): f"{statistics.median(each) * 1000:.0f}, {max(each) * 1000:.0f}"
        for at, each in seconds.items()
    }


def poison(http: httpx.Client) -> dict[tuple[str, str, str], str]:
    """Return what `status` says is parked: store, view and key, and why."""
    return {
        ("memory" if part["kind"] == "memory" else "postgres", each["view"], each["key"]): (
            f"{each['event']} {each['reason']}"
        )
        for part in http.get("/operators/status").json()["parts"]
        for each in part.get("poison", ())
    }


def in_status(key: str) -> str:
    """Return the key as `status` shows it."""
    return key[:200].replace("\0", "\\u0000")


def assert_confined(stack: Stack, http: httpx.Client, token: str) -> None:
    """Every part is ready, and says the same of what is parked each time it is asked."""
    expected = set().union(*(each.parked for each in POISON))
    for _ in range(5):
        parts = http.get("/operators/status").json()["parts"]
        assert [part["part"] for part in parts if not part["ready"] or part.get("error")] == []
        reasons = poison(http)
        assert reasons.keys() == {(store, view, in_status(key)) for store, view, key in expected}
        for each in POISON:
            for store, view, key in each.parked:
                said = reasons[store, view, in_status(key)]
                assert f"1@meter-{each.meter} " in said
                assert each.reason in said
        assert parked(http) == expected
        lags(http, 10)  # time passes, and events go by
    assert "postgres latest huge is parked at 1@meter-huge: " in run_rayfold(stack, "status")
    verified = run("verify", "--data", str(stack.data), cwd=Path.cwd())
    assert "only one store refuses is a difference" in verified.stdout
    # Rows that are broken in one store are whole in the other.
    assert ask(http, "/latest/huge", "memory", token)["units"] == 2
    assert ask(http, "/latest/huge", "postgres", token)["units"] == 1
    for store in ("memory", "postgres"):
        assert ask(http, "/sums/fold", store, token)["units"] == 1
        assert ask(http, "/sums/nul", store, token)["units"] == 4


def until_parked(http: httpx.Client, poison: Poison) -> None:
    """Return when it is parked wherever it is to be."""
    deadline = time.monotonic() + DEADLINE
    while not poison.parked <= parked(http):
        assert time.monotonic() < deadline, poison.meter
        time.sleep(0.05)


def parked(http: httpx.Client) -> set[tuple[str, str, str]]:
    """Return what is parked: store, view and key."""
    found = http.get("/operators/parked").json()["parked"]
    return {(each["store"], each["view"], each["key"]) for each in found}


def until_all_answer(http: httpx.Client) -> None:
    """Return when every part is ready."""
    deadline = time.monotonic() + DEADLINE
    while http.get("/health/parts").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def seconds_of_ray(stack: Stack) -> float:
    """Return how long Ray took at the last start, as `up` has said."""
    said = stack.data.with_name(f"{stack.data.name}.log").read_text()
    return float(re.findall(r"^ray: ([\d.]+) s$", said, re.MULTILINE)[-1])


def replay(stack: Stack, view: str, key: str) -> tuple[int, str]:
    """Replay by the command line; return its exit code and what it says."""
    command = [*rayfold(), "parked", "replay", view, key, "--data", str(stack.data)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout.decode()
