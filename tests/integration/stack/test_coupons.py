"""Decisions over several aggregates on the real stack: over HTTP, over several hosts, over deaths.

The long form, with 64 clients and as a saga too, is `python -m loadtests.coupons`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from actors.errors import WriteSideError
from actors.joint_appends import check_joint_appends
from actors.placement.shards import ShardTable
from eventstore.kurrentdb.log import EventLog
from loadtests import coupons
from rayfold import Registry
from tests.stack import Stack, run_rayfold

HOSTS = 2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`rayfold up` with coupons and two write hosts."""
    running = Stack(
        tmp_path_factory.mktemp("coupons") / "data",
        RAYFOLD_DOMAIN="examples.coupons",
        RAYFOLD_WRITE_HOSTS=str(HOSTS),
    )
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of its gateway."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def issue(http: httpx.Client, **terms: int) -> str:
    coupon = f"c-{uuid4().hex[:12]}"
    answer = http.post("/coupons", json={"coupon_id": coupon, **terms})
    assert answer.status_code == 202, answer.text
    return coupon


def redeem(http: httpx.Client, coupon: str, customer: str, **headers: str) -> httpx.Response:
    path = f"/coupons/{coupon}/redemptions"
    return http.post(path, json={"customer_id": customer}, headers=headers)


def customer_elsewhere(coupon: str) -> str:
    """Return a customer whose stream belongs to another host than the coupon's."""
    table = ShardTable(HOSTS)
    while True:
        customer = f"ada-{uuid4().hex[:8]}"
        if table.host_of(f"customer-{customer}") != table.host_of(f"coupon-{coupon}"):
            return customer


def test_a_receipt_names_every_stream_and_all_views_show_it(http: httpx.Client) -> None:
    coupon = issue(http, each=1)
    customer, key = customer_elsewhere(coupon), str(uuid4())
    headers = {"idempotency-key": key, "prefer": "wait=30"}
    answer = redeem(http, coupon, customer, **headers)
    assert answer.status_code == 202, answer.text
    receipt = answer.json()
    assert receipt == {
        "command_id": key,
        "stream": f"coupon-{coupon}",
        "revision": 1,
        "position": receipt["position"],
        "revisions": {f"coupon-{coupon}": 1, f"customer-{customer}": 0},
    }
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/coupons/{coupon}"
    assert answer.headers["preference-applied"] == "wait=30"
    assert http.get(f"/coupons/{coupon}").json()["redeemed"] == 1
    assert http.get(f"/customers/{customer}").json()["redeemed"] == {coupon: 1}
    status = http.get(f"/commands/{key}").json()
    assert (status["status"], status["revisions"]) == ("projected", receipt["revisions"])
    refused = redeem(http, coupon, customer)
    assert (refused.status_code, refused.json()["code"]) == (409, "customer-used-up")
    assert redeem(http, "unheard-of", customer).status_code == 404
    history = http.get(f"/customers/{customer}/history").json()
    assert history[0]["metadata"]["commandId"] == key


def test_a_revision_is_that_of_the_coupon(http: httpx.Client) -> None:
    coupon = issue(http)
    refused = redeem(http, coupon, "eve", **{"if-match": '"7"'})
    assert (refused.status_code, refused.json()["actual"]) == (412, 0)
    assert redeem(http, coupon, "eve", **{"if-match": '"0"'}).status_code == 202


def test_ids_are_those_of_two_aggregates(http: httpx.Client) -> None:
    coupon = issue(http)
    for customer in ("", "a b", "ä", "x" * 65, 2**70, None, ["a"]):
        path = f"/coupons/{coupon}/redemptions"
        answer = http.post(path, json={"customer_id": customer})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == "customer_id"
    answer = http.post("/commands/redeem-coupon", json={"coupon_id": coupon, "customer_id": "ok"})
    assert answer.status_code == 202


def test_hosts_of_the_other_aggregates_see_decisions_made_elsewhere(
    http: httpx.Client,
) -> None:
    coupon = issue(http)
    customer = customer_elsewhere(coupon)
    assert http.post(f"/customers/{customer}/bar").json()["revision"] == 0
    assert redeem(http, coupon, customer).json()["code"] == "customer-barred"
    again = http.post(f"/customers/{customer}/bar")
    assert (again.status_code, again.json()["code"]) == (409, "customer-barred")
    other = customer_elsewhere(coupon)
    for revision in range(2):
        receipt = redeem(http, coupon, other).json()
        assert receipt["revisions"][f"customer-{other}"] == revision
    assert http.post(f"/customers/{other}/bar").json()["revision"] == 2
    assert redeem(http, coupon, other).json()["code"] == "customer-barred"


def test_a_repeat_gives_the_same_receipt_after_every_host_has_died(
    stack: Stack, http: httpx.Client
) -> None:
    coupon = issue(http)
    keys = [str(uuid4()) for _ in range(8)]
    wanted = [(customer_elsewhere(coupon), {"idempotency-key": key}) for key in keys]
    first = [redeem(http, coupon, customer, **headers).json() for customer, headers in wanted]
    for pid in _hosts(http):
        os.kill(pid, signal.SIGKILL)
    repeated = [redeem(http, coupon, customer, **headers).json() for customer, headers in wanted]
    assert repeated == first
    assert len(http.get(f"/coupons/{coupon}/history").json()) == 1 + len(keys)


def _hosts(http: httpx.Client) -> list[int]:
    parts = http.get("/operators/status").json()["parts"]
    return [part["pid"] for part in parts if part["part"].startswith("write#") and part["ready"]]


def test_a_customer_that_is_deleted_begins_again_wherever_it_was_known(
    stack: Stack, http: httpx.Client
) -> None:
    coupon = issue(http, each=1)
    customer = customer_elsewhere(coupon)
    assert redeem(http, coupon, customer).status_code == 202
    assert redeem(http, coupon, customer).status_code == 409
    run_rayfold(stack, "delete", f"customer-{customer}", "--yes")
    answer = redeem(http, coupon, customer)
    assert answer.status_code == 202, answer.text
    assert answer.json()["revisions"][f"customer-{customer}"] == 1


def test_no_decision_uses_the_old_state_of_a_deleted_aggregate(
    stack: Stack, http: httpx.Client
) -> None:
    coupon = issue(http, each=3)
    customer = customer_elsewhere(coupon)
    for _ in range(2):
        assert redeem(http, coupon, customer).status_code == 202
    run_rayfold(stack, "delete", f"customer-{customer}", "--yes")
    # The coupon's host knew the customer, and its append would not have failed.
    token = redeem(http, coupon, customer).headers["consistency-token"]
    headers = {"consistency-token": token, "prefer": "wait=30"}
    row = http.get(f"/customers/{customer}", headers=headers).json()
    assert row["redeemed"] == {coupon: 1}


def test_neither_limit_is_broken_while_hosts_are_killed(stack: Stack) -> None:
    load = coupons.Load(clients=32, customers=240, times=300, kills=2, interval=0.5)
    outcome = asyncio.run(coupons.run(stack.url, load))
    print(*(f"{what}: {value}" for what, value in outcome.lines()), sep=", ")
    assert outcome.redeemed.total() == load.wanted
    assert max(outcome.redeemed.values()) <= coupons.EACH
    assert outcome.differences == 0


def test_an_openapi_client_may_expect_revisions(http: httpx.Client) -> None:
    document: dict[str, Any] = http.get("/schema").json()
    receipt = document["components"]["schemas"]["Receipt"]
    assert receipt["properties"]["revisions"]["additionalProperties"] == {"type": "integer"}
    assert "revisions" not in receipt["required"]
    assert "post" in document["paths"]["/coupons/{coupon_id}/redemptions"]


async def test_a_log_without_append_records_is_refused_a_domain_with_decisions(
    eventstore: str,
) -> None:
    old, new = EventLog(eventstore, atomic=False), EventLog(eventstore)
    decides = Registry.load("examples.coupons")
    await check_joint_appends(decides, new)
    await check_joint_appends(Registry.load("domain"), old)
    with pytest.raises(WriteSideError, match=r"Redeem.*append_records.*26\.1"):
        await check_joint_appends(decides, old)
    await old.close()
    await new.close()
