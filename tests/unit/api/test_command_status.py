"""The status of a command, requested later."""

from __future__ import annotations

import pytest

from actors import errors as write
from actors.envelope import Done, Outcome
from api.commands import records
from rayfold import Registry, Rejected
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import problem

KEY = "7a3e3f80-1f0e-4c38-9f5b-9a7a3d1f1c55"
PLACE = f"/orders/{ORDER_ID}/place"


async def _place(gateway: Gateway, key: str = KEY) -> None:
    await gateway.http.post(PLACE, headers={"idempotency-key": key})


async def test_projected_once_every_view_shows_it(gateway: Gateway) -> None:
    await _place(gateway)
    reply = await gateway.http.get(f"/commands/{KEY}")
    assert reply.json() == {
        "command_id": KEY,
        "status": "projected",
        "behind": [],
        "stream": f"order-{ORDER_ID}",
        "revision": 7,
        "position": 99,
    }


async def test_processing_while_a_view_lags(gateway: Gateway) -> None:
    await _place(gateway)
    gateway.queries.behind = ["sales-by-day"]
    body = (await gateway.http.get(f"/commands/{KEY}")).json()
    assert body["status"] == "processing"
    assert body["behind"] == ["sales-by-day"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("empty-order", "nothing in it"), "empty-order"),
        (write.RevisionMismatch(1, 2), "revision-mismatch"),
    ],
)
async def test_rejected_with_the_reason(gateway: Gateway, error: Exception, code: str) -> None:
    gateway.commands.error = error
    await _place(gateway)
    body = (await gateway.http.get(f"/commands/{KEY}")).json()
    assert body["status"] == "rejected"
    assert body["code"] == code


async def test_without_an_answer_from_the_writer_the_status_is_processing(gateway: Gateway) -> None:
    gateway.commands.error = write.Unavailable("the host is gone")
    await _place(gateway)
    body = (await gateway.http.get(f"/commands/{KEY}")).json()
    assert body["status"] == "processing"
    assert body["detail"] == "the host is gone"


async def test_a_command_on_the_log_stays_projected_whatever_a_repeat_meets(
    gateway: Gateway,
) -> None:
    await _place(gateway)
    for error in (write.KeyReused(KEY), write.Unavailable("gone"), Rejected("late", "late")):
        gateway.commands.error = error
        await _place(gateway)
        assert (await gateway.http.get(f"/commands/{KEY}")).json()["status"] == "projected"


async def test_a_command_that_was_refused_unread_is_forgotten(gateway: Gateway) -> None:
    gateway.commands.error = write.Overloaded()
    await _place(gateway)
    problem(await gateway.http.get(f"/commands/{KEY}"), 404, "unknown-command-id")


async def test_a_key_is_as_good_as_an_id(gateway: Gateway) -> None:
    await _place(gateway, "order 17")
    assert (await gateway.http.get("/commands/order 17")).json()["status"] == "projected"


async def test_an_unknown_key_is_not_found(gateway: Gateway) -> None:
    problem(await gateway.http.get("/commands/nonsense"), 404, "unknown-command-id")


class Writers:
    """What became of commands, by id."""

    def __init__(self) -> None:
        self.known: dict[str, Outcome | None] = {}

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        if command_id not in self.known:
            return None
        return f"order-{ORDER_ID}", self.known[command_id]


@pytest.fixture
def writers() -> Writers:
    return Writers()


@pytest.fixture
def other(registry: Registry, writers: Writers) -> Gateway:
    """A gateway that has not taken the command."""
    return Gateway(registry, options={"outcomes": writers})


async def test_the_status_of_another_gateways_command_is_known_by_the_writers(
    other: Gateway, writers: Writers
) -> None:
    problem(await other.http.get(f"/commands/{KEY}"), 404, "unknown-command-id")
    writers.known[KEY] = None
    body = (await other.http.get(f"/commands/{KEY}")).json()
    assert body == {"command_id": KEY, "status": "processing"}
    writers.known[KEY] = Done(7, 99)
    body = (await other.http.get(f"/commands/{KEY}")).json()
    assert (body["status"], body["revision"], body["position"]) == ("projected", 7, 99)
    assert body["stream"] == f"order-{ORDER_ID}"
    del writers.known[KEY]  # what is in the log stays: it was noted here
    assert (await other.http.get(f"/commands/{KEY}")).json()["status"] == "projected"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("empty-order", "nothing in it"), "empty-order"),
        (write.RevisionMismatch(1, 2), "revision-mismatch"),
    ],
)
async def test_the_writers_know_of_refusals_too(
    other: Gateway, writers: Writers, error: Exception, code: str
) -> None:
    writers.known[KEY] = error
    body = (await other.http.get(f"/commands/{KEY}")).json()
    assert (body["status"], body["code"]) == ("rejected", code)


async def test_a_command_without_an_answer_here_may_have_an_outcome_at_the_writer(
    other: Gateway, writers: Writers
) -> None:
    other.commands.error = write.Unavailable("no answer in time")
    await _place(other)
    assert (await other.http.get(f"/commands/{KEY}")).json()["detail"] == "no answer in time"
    writers.known[KEY] = Done(7, 99)
    assert (await other.http.get(f"/commands/{KEY}")).json()["status"] == "projected"


def test_the_oldest_outcome_is_forgotten_first() -> None:
    kept = records.CommandRecords(capacity=2)
    for name in ("a", "b", "c"):
        kept.begin(name)
    assert [kept.get(name) is not None for name in ("a", "b", "c")] == [False, True, True]
