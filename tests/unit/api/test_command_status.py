"""What became of a command, asked afterwards."""

from __future__ import annotations

import pytest

from actors import errors as write
from api.commands import records
from rayfold import Rejected
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


async def test_without_an_answer_from_the_writer_nobody_knows(gateway: Gateway) -> None:
    gateway.commands.error = write.Unavailable("the host is gone")
    await _place(gateway)
    body = (await gateway.http.get(f"/commands/{KEY}")).json()
    assert body["status"] == "processing"
    assert body["detail"] == "the host is gone"


async def test_what_stands_in_the_log_stands(gateway: Gateway) -> None:
    await _place(gateway)
    for error in (write.KeyReused(KEY), write.Unavailable("gone"), Rejected("late", "late")):
        gateway.commands.error = error
        await _place(gateway)
        assert (await gateway.http.get(f"/commands/{KEY}")).json()["status"] == "projected"


async def test_what_was_refused_unread_is_forgotten(gateway: Gateway) -> None:
    gateway.commands.error = write.Overloaded()
    await _place(gateway)
    problem(await gateway.http.get(f"/commands/{KEY}"), 404, "unknown-command-id")


async def test_a_key_is_as_good_as_an_id(gateway: Gateway) -> None:
    await _place(gateway, "order 17")
    assert (await gateway.http.get("/commands/order 17")).json()["status"] == "projected"


async def test_a_key_that_nobody_has_sent_is_unknown(gateway: Gateway) -> None:
    problem(await gateway.http.get("/commands/nonsense"), 404, "unknown-command-id")


def test_the_oldest_outcome_is_forgotten_first() -> None:
    kept = records.CommandRecords(capacity=2)
    for name in ("a", "b", "c"):
        kept.begin(name, None)  # type: ignore[arg-type]
    assert [kept.get(name) is not None for name in ("a", "b", "c")] == [False, True, True]
