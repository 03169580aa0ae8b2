"""What the read and write sides refuse, or cannot do, as a client sees it."""

from __future__ import annotations

import logging

import pytest

from actors import errors as write
from projections import errors as read
from rayfold import NotFound, RayfoldError, Rejected
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import fields_of, problem


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Rejected("empty-order", "nothing in it"), 409, "empty-order"),
        (NotFound("unknown-order", "there is none"), 404, "unknown-order"),
        (write.RevisionMismatch(3, 4), 412, "revision-mismatch"),
        (write.RevisionMismatch(3, None), 412, "revision-mismatch"),
        (write.AggregateDeleted(f"order-{ORDER_ID}"), 410, "aggregate-deleted"),
        (write.KeyReused(ORDER_ID), 422, "idempotency-key-reused"),
        (write.InvalidCommand("no"), 422, "invalid-command"),
        (write.Overloaded(3), 503, "overloaded"),
        (write.Unavailable("gone", 2), 503, "write-side-unavailable"),
        (write.StreamUnreadable("bad event"), 503, "stream-unreadable"),
        (write.WriteSideError("?"), 503, "write-side-unavailable"),
        (write.DecisionFailed("KeyError: secret"), 500, "domain-failed"),
        (RayfoldError("store down"), 503, "part-down"),
    ],
)
async def test_a_command_that_fails_has_the_documented_status(
    gateway: Gateway, error: Exception, status: int, kind: str
) -> None:
    gateway.commands.error = error
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place")
    document = problem(reply, status, kind)
    assert (status == 503) == ("retry-after" in reply.headers)
    assert "secret" not in document["detail"]


async def test_an_invalid_command_names_the_field(gateway: Gateway) -> None:
    gateway.commands.error = write.InvalidCommand("shelf has 6000 bytes; at most 1024", "shelf")
    assert fields_of(await gateway.http.post(f"/orders/{ORDER_ID}/place")) == {"shelf"}


async def test_a_rejection_carries_the_code_of_its_rule(gateway: Gateway) -> None:
    gateway.commands.error = Rejected("empty-order", "nothing in it")
    document = problem(await gateway.http.post(f"/orders/{ORDER_ID}/place"), 409)
    assert document["code"] == "empty-order"
    assert document["detail"] == "nothing in it"


async def test_an_overloaded_writer_says_when_to_come_back(gateway: Gateway) -> None:
    gateway.commands.error = write.Overloaded(3)
    reply = await gateway.http.post(f"/orders/{ORDER_ID}/place")
    assert reply.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (read.BadCursor("x"), 400, "bad-cursor"),
        (read.NoSuchStore("x"), 400, "no-such-store"),
        (read.ReplicaUnavailable("x"), 503, "replica-unavailable"),
        (read.PostgresUnavailable("x"), 503, "postgres-unavailable"),
        (read.ProjectionError("x"), 503, "read-side-unavailable"),
    ],
)
async def test_a_query_that_fails_has_the_documented_status(
    gateway: Gateway, error: Exception, status: int, kind: str
) -> None:
    gateway.queries.error = error
    reply = await gateway.http.get(f"/orders/{ORDER_ID}")
    problem(reply, status, kind)
    assert (status == 503) == ("retry-after" in reply.headers)


_SAID = "connect call failed ('10.0.0.7', 5432)"


@pytest.mark.parametrize(
    ("error", "plain"),
    [
        (write.EventStoreUnavailable.because(OSError(_SAID)), "the event store does not answer"),
        (
            read.PostgresUnavailable(f"Postgres does not answer: {_SAID}"),
            "Postgres does not answer",
        ),
        (write.Unavailable(f"AioRpcError: {_SAID}"), "the event store, or another part"),
        (RayfoldError(_SAID), "the event store, or another part"),
    ],
)
async def test_a_client_is_told_in_plain_words_what_is_down_and_operators_in_full(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, error: Exception, plain: str
) -> None:
    gateway.commands.error = gateway.operations.error = error
    for _ in range(3):
        told = problem(await gateway.http.post(f"/orders/{ORDER_ID}/place"), 503)["detail"]
        assert told.startswith(plain)
        assert "10.0.0.7" not in told
    asked = await gateway.http.post("/operators/scale", json={"target": "memory", "n": 2})
    assert _SAID in problem(asked, 503)["detail"]
    logged = [_SAID in str(vars(record).get("error")) for record in caplog.records]
    assert logged == [True]  # once: there may be thousands of requests


@pytest.mark.parametrize("error", [KeyError("secret"), SystemExit("secret")])
async def test_an_unexpected_error_is_logged_and_not_shown(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """The author's validator may raise SystemExit, which must not end the gateway."""
    gateway.commands.error = error
    with caplog.at_level(logging.ERROR):
        reply = await gateway.http.post(f"/orders/{ORDER_ID}/place")
    problem(reply, 500, "internal-error")
    assert "secret" not in reply.text
    assert "secret" in caplog.text
