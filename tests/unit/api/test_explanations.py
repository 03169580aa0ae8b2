"""Why a view lags: the input is the status of the parts, the output a sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.operators.explaining import names_of
from api.operators.explanations import COUNTED, Explanation, explain
from rayfold import RayfoldError, Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.problems import problem

NOW = datetime(2026, 1, 1, 12, 0, 40, tzinfo=UTC)
SINCE = "2026-01-01T12:00:00.000+00:00"
VIEW = "order-details"


def part(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "part": name,
        "kind": kind,
        "ready": True,
        "views": [VIEW],
        "position": 100,
        "lag": 0,
        "lag_seconds": 0.0,
        "per_second": 0.0,
        "log_per_second": 0.0,
        **more,
    }


def server(name: str, **more: Any) -> dict[str, Any]:
    return {"part": name, "kind": "server", "serves": False, "ready": True, **more}


def down(error: str) -> dict[str, Any]:
    return {"ready": False, "error": error, "since": SINCE}


MEMORY = part("memory:all#0", "memory")
POSTGRES = part(f"postgres:{VIEW}#0", "postgres")
SERVERS = [server("eventstore"), server("postgres"), server("ray")]


def explained(*parts: dict[str, Any], **more: Any) -> Explanation:
    given = {"rebuilds": [], "parked": [], "now": NOW} | more
    return explain(VIEW, [*SERVERS, *parts], **given)


def causes(found: Explanation) -> list[str]:
    return [each.cause for each in found.findings]


def test_if_nothing_is_wrong_that_is_said_too() -> None:
    found = explained(MEMORY, POSTGRES)
    assert found.findings == []
    assert found.sentence == "order-details is up to date in memory, postgres."


def test_a_store_that_is_down_hides_the_errors_that_it_causes() -> None:
    broken = {"ready": False, "error": "StoreUnavailable: no answer", "since": SINCE}
    parts = [server("eventstore", **down("no answer in 1.5 s")), MEMORY | broken, POSTGRES | broken]
    found = explain(VIEW, parts, [], [], NOW)
    assert causes(found) == ["store-down"]
    assert (
        f"the event store does not serve since {SINCE} (40 s): no answer in 1.5 s" in found.sentence
    )
    assert "What to do: look at the event store" in found.sentence


def test_postgres_being_down_is_reported_for_the_views_in_it() -> None:
    parts = [server("postgres", **down("connection refused")), MEMORY]
    failing = POSTGRES | {"ready": False, "error": "ConnectionRefusedError"}
    assert causes(explain(VIEW, [*parts, failing], [], [], NOW)) == ["postgres-down"]
    assert causes(explain(VIEW, parts, [], [], NOW)) == []


def test_a_parked_row_is_named_with_its_event_and_its_error() -> None:
    first = {"store": "postgres", "view": VIEW, "key": "7", "stream": "order-7", "revision": 3}
    parked = [{**first, "error": "division by zero"}, {**first, "key": "8", "error": "x"}]
    other = {**first, "view": "sales-by-day", "error": "x"}
    found = explained(MEMORY, POSTGRES, parked=[other, *parked])
    assert causes(found) == ["parked"]
    assert "has parked '7' and 1 more in postgres at event 3@order-7 (division by zero)" in (
        found.sentence
    )
    assert "rayfold parked replay order-details" in found.findings[0].do
    many = [{**first, "key": str(at), "error": "x"} for at in range(COUNTED)]
    assert "'0' and at least 100 more in" in explained(MEMORY, POSTGRES, parked=many).sentence


@pytest.mark.parametrize(
    ("error", "said"),
    [("TimeoutError", "does not answer"), ("ActorUnavailable", "is gone")],
)
def test_a_dead_projector_is_reported_as_being_restarted(error: str, said: str) -> None:
    dead = {key: value for key, value in POSTGRES.items() if key != "position"}
    found = explained(MEMORY, dead | {**down(error), "restarts": 3})
    assert causes(found) == ["part-down"]
    assert f"postgres:{VIEW}#0 is down since {SINCE} (40 s)" in found.sentence
    assert said in found.sentence
    assert "started again 3 times before" in found.sentence


def test_a_part_that_has_just_begun_says_how_far_it_is() -> None:
    starting = MEMORY | {"ready": False, "since": SINCE, "lag": 500, "per_second": 100.0}
    found = explained(starting, POSTGRES)
    assert causes(found) == ["starting"]
    assert "100 positions a second, about 5 s are left" in found.sentence


def test_the_error_of_a_projector_is_quoted() -> None:
    found = explained(MEMORY, POSTGRES | down("UndefinedTableError: no such table"))
    assert causes(found) == ["failing"]
    assert "UndefinedTableError: no such table" in found.sentence


def test_a_rebuild_is_reported_with_what_is_left() -> None:
    going_on = {
        "view": VIEW,
        "state": "building",
        "store": "postgres",
        "seconds": 30.0,
        "events_per_second": 1200,
        "seconds_left": 90.0,
    }
    found = explained(MEMORY, POSTGRES, rebuilds=[going_on, {**going_on, "view": "other"}])
    assert causes(found) == ["rebuilding"]
    assert "in postgres for 30 s, 1200 events a second, about 90 s are left" in found.sentence
    failed = {**going_on, "state": "failed", "error": "disk full"}
    assert causes(explained(MEMORY, rebuilds=[failed])) == ["rebuild-failed"]
    [refused] = explained(MEMORY, rebuilds=[{**failed, "would_park": True}]).findings
    assert "--accept-parked" in refused.do
    assert causes(explained(MEMORY, rebuilds=[{**going_on, "state": "done"}])) == []


def test_a_slow_handler_is_named_by_the_event_that_it_is_at() -> None:
    slow = {"lag": 900, "lag_seconds": 75.0, "per_second": 2.0, "log_per_second": 50.0}
    working = {"working": {"event": "4@order-9", "events": 20, "seconds": 12.3}}
    found = explained(MEMORY, POSTGRES | slow | working)
    assert causes(found) == ["slow"]
    assert "is 75 s behind the log: it has been at 20 events from 4@order-9 on for 12 s" in (
        found.sentence
    )
    assert found.findings[0].since == "2026-01-01T11:59:25+00:00"
    assert "rayfold scale postgres:order-details N" in found.findings[0].do
    found = explained(MEMORY, POSTGRES | slow)
    assert causes(found) == ["slow"]
    assert "folds 2 positions a second, and the log grows by 50" in found.sentence


def test_a_part_that_catches_up_is_distinguished_from_one_that_falls_behind() -> None:
    behind = {"lag": 900, "lag_seconds": 75.0, "per_second": 110.0, "log_per_second": 10.0}
    found = explained(MEMORY, POSTGRES | behind)
    assert causes(found) == ["catching-up"]
    assert "about 9 s are left" in found.sentence


def test_a_view_that_stopped_by_its_own_policy_says_so_before_its_lag() -> None:
    stopped = {"ready": False, "stopped": {VIEW: "KeyError: 'x'"}, "lag": 9, "lag_seconds": 60.0}
    found = explained(MEMORY, POSTGRES | stopped)
    assert causes(found) == ["stopped"]
    assert "at an event that it cannot fold (KeyError: 'x')" in found.sentence


def test_a_publication_and_a_process_are_explained_by_their_parts() -> None:
    sent = part("publication:order-news", "publication", parked=2, views=["order-news"])
    sent |= {"parked_since": "2026-01-01T12:00:00Z"}
    found = explain("order-news", [*SERVERS, sent], [], [], NOW)
    assert causes(found) == ["parked"]
    assert "has parked 2 since 2026-01-01T12:00:00Z (40 s): all others" in found.sentence
    refused = sent | {"parked": 0, "failing": 3, "error": "key 7: it answers 500"}
    refused |= {"waiting": 9, "lag": 40, "lag_seconds": 30.0}
    found = explain("order-news", [*SERVERS, refused], [], [], NOW)
    assert causes(found) == ["failing"]
    assert found.findings[0].since == "2026-01-01T12:00:10+00:00"
    assert "of 3 keys (key 7: it answers 500)" in found.sentence
    assert "since 2026-01-01T12:00:10+00:00 (30 s)" in found.sentence
    again = part("process:fulfilment#0", "process", parked=0, waiting=2, views=[])
    found = explain("fulfilment", [*SERVERS, again], [], [], NOW)
    assert causes(found) == ["failing"]
    assert "sends 2 of its commands again" in found.sentence
    saga = part("process:fulfilment#0", "process", parked=1, views=[])
    found = explain("fulfilment", [*SERVERS, saga], [], [], NOW)
    assert "rayfold processes list --parked" in found.sentence
    assert causes(explain("order-news", SERVERS, [], [], NOW)) == ["nowhere"]


def test_an_error_that_prevents_a_part_from_starting_is_reported() -> None:
    down = {"part": "memory:v#0", "kind": "memory", "views": ["v"], "ready": False, "restarts": 1}
    error = "node vm has another domain (two, not one): install the same there"
    found = explain("v", [*SERVERS, {**down, "error": error, "broken": True}], [], [], NOW)
    assert causes(found) == ["failing"]
    assert error in found.sentence


def late(name: str, kind: str, **more: Any) -> Explanation:
    behind = {"lag": 9, "lag_seconds": 30.0, "views": [], **more}
    called = name.partition(":")[2].partition("#")[0]
    return explain(called, [*SERVERS, part(name, kind, **behind)], [], [], NOW)


@pytest.mark.parametrize(
    ("found", "said", "do"),
    [
        (
            late("publication:order-news", "publication", waiting=9),
            "9 events of publication:order-news wait for its receiver, the first for 30 s",
            "`connections`",
        ),
        (
            late("reactor:filing#0", "reactor", held_seconds=30.0),
            "reactor:filing#0 gets has not been done with for 30 s",
            "`rayfold scale reactor:filing N`",
        ),
        (
            late("process:fulfilment#0", "process"),
            "process:fulfilment#0 has been at an event for 30 s",
            "`rayfold scale process:fulfilment N`",
        ),
    ],
)
def test_a_part_that_folds_no_rows_is_reported_by_what_it_waits_for(
    found: Explanation, said: str, do: str
) -> None:
    assert causes(found) == ["slow"]
    assert said in found.sentence
    assert do in found.findings[0].do
    assert found.findings[0].since == "2026-01-01T12:00:10+00:00"
    for word in ("fold", "advance"):
        assert word not in found.sentence.replace("rayfold", "")


def test_for_a_reactor_a_parked_event_is_reported_and_not_a_row() -> None:
    reactor = part("reactor:filing#0", "reactor", views=["filing"])
    at = {"store": "reactor", "view": "filing", "key": "3@order-7", "stream": "order-7"}
    found = explain("filing", [*SERVERS, reactor], [], [at | {"revision": 3, "error": "x"}], NOW)
    assert causes(found) == ["parked"]
    assert "filing has parked event 3@order-7 (x): all others go on" in found.sentence


def test_a_reactor_that_has_just_received_old_events_is_catching_up() -> None:
    found = late("reactor:filing#0", "reactor", lag_seconds=600.0, held_seconds=0.1)
    assert causes(found) == ["catching-up"]
    assert "reactor:filing#0 is 10 min behind the log, and advances" in found.sentence


def test_scaling_is_suggested_only_for_parts_that_can_be_scaled() -> None:
    slow = {"lag": 9, "lag_seconds": 30.0, "per_second": 1.0, "log_per_second": 5.0}
    do = {
        kind: explained(part(f"{kind}:x", kind, **slow)).findings[0].do
        for kind in ("memory", "sql", "redis", "competing")
    }
    assert "scale" not in do["memory"]
    assert "scale" not in do["sql"]
    assert "rayfold scale redis:order-details N" in do["redis"]
    assert "rayfold scale postgres:order-details N" in do["competing"]
    assert "Postgres" not in do["redis"]


def test_a_part_whose_process_does_not_answer_is_down_and_not_failing() -> None:
    silent = part("process:fulfilment#0", "process", **down("it does not answer"))
    found = explain("fulfilment", [*SERVERS, silent], [], [], NOW)
    assert causes(found) == ["part-down"]
    assert f"is down since {SINCE} (40 s): its process does not answer" in found.sentence


def test_a_stopped_view_is_reported_once_with_its_event_and_key() -> None:
    stopped = {"ready": False, "stopped": {VIEW: "ValueError: 'x'"}}
    at = {"store": "postgres", "view": VIEW, "key": "a b", "stream": "order-7", "revision": 3}
    found = explained(POSTGRES | stopped, parked=[{**at, "error": "ValueError: 'x'"}])
    assert causes(found) == ["stopped"]
    assert "stopped in postgres at event 3@order-7, which it cannot fold" in found.sentence
    assert "`rayfold parked discard order-details 'a b'`" in found.findings[0].do
    elsewhere = {**at, "store": "redis", "error": "KeyError"}
    assert causes(explained(POSTGRES | stopped, parked=[elsewhere])) == ["stopped", "parked"]


def test_a_starting_view_in_a_durable_store_answers_with_its_old_rows() -> None:
    starting = {"ready": False, "since": SINCE, "lag": 500, "per_second": 100.0}
    assert "other replicas" in explained(MEMORY | starting).findings[0].do
    assert "with what is there" in explained(POSTGRES | starting).findings[0].do


async def test_a_view_is_explained_by_its_name_or_that_of_its_query(gateway: Gateway) -> None:
    gateway.operations.known = [*SERVERS, MEMORY, POSTGRES]
    for name in (VIEW, "get-order"):
        reply = (await gateway.http.get(f"/operators/explain/{name}")).json()
        assert (reply["name"], reply["healthy"]) == (VIEW, True)
    reply = await gateway.http.get("/operators/explain/order-detail")
    assert "order-details" in problem(reply, 404, "not-found")["detail"]


async def test_parked_events_are_known_from_the_status_if_a_part_does_not_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: Any) -> list[dict[str, Any]]:
        raise RayfoldError("no answer")

    monkeypatch.setattr(gateway.operations, "parked", silent)
    event = {"view": VIEW, "key": "7", "event": "3@order-7", "reason": "broke"}
    gateway.operations.known = [*SERVERS, MEMORY | {"poison": [event]}]
    reply = (await gateway.http.get(f"/operators/explain/{VIEW}")).json()
    assert [each["cause"] for each in reply["findings"]] == ["parked"]


def test_all_that_a_domain_declares_can_be_explained() -> None:
    names = names_of(Registry.load("domain"))
    assert {VIEW, "order-news", "fulfilment", "get-order"} <= set(names)
    assert datetime.fromisoformat(SINCE) + timedelta(seconds=40) == NOW
