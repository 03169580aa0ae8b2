"""Fulfilments in a whole stack, by HTTP and by the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from domain.fulfilment.process import Fulfilment
from tests.conftest import serve_store
from tests.integration.publications.receiver import ReceiverProcess
from tests.stack import Stack, rayfold

PAYMENT_TIMEOUT = 20.0
"""Seconds: more than the tests take from an order's reservation to its payment."""


SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0IQ=="


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of everything."""
    return tmp_path_factory.mktemp("fulfilment")


@pytest.fixture(scope="module")
def receiver(folder: Path) -> Iterator[ReceiverProcess]:
    """Who is told of orders."""
    made = ReceiverProcess(folder / "taken", SECRET, 0.0)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def environment(receiver: ReceiverProcess) -> dict[str, str]:
    """Return the settings: orders have to be paid soon."""
    hook = {"url": receiver.url, "secret": SECRET, "private_addresses": True}
    news = {**hook, "park_after": 0.5, "retry_parked": 1}
    return {
        "FULFILMENT_PAYMENT_TIMEOUT": str(PAYMENT_TIMEOUT),
        "RAYFOLD_PUBLICATIONS": json.dumps({"order-news": news}),
    }


@pytest.fixture(scope="module")
def stack(folder: Path, environment: dict[str, str]) -> Iterator[Stack]:
    """A stack with them."""
    made = Stack(folder / "data", **environment)
    made.start()
    yield made
    assert made.stop() == 0


class Unpaid(NamedTuple):
    """An order that nobody pays, and what it has reserved: one of five."""

    order: str
    sku: str


def unpaid(http: httpx.Client) -> Unpaid:
    """Place such an order; it waits for its payment from now on.

    Whoever orders would keep it for nothing: another command has the id of its expiry.
    """
    sku, order = stocked(http), str(uuid4())
    placed(http, sku, order=order, key=expiry_of(order))
    wait_for(lambda: stage(http, order) == "awaiting-payment")
    return Unpaid(order, sku)


@pytest.fixture(scope="module")
def before_a_crash(stack: Stack) -> Unpaid:
    """Place one; then the stack is killed, and started again."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        waits = unpaid(client)
    stack.kill()
    stack.start()
    return waits


@pytest.fixture(scope="module")
def since_a_crash(stack: Stack, before_a_crash: Unpaid) -> Unpaid:
    """Place one in the stack that was started again."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        return unpaid(client)


@pytest.fixture
def http(stack: Stack, since_a_crash: Unpaid) -> Iterator[httpx.Client]:
    """A client of it. What waits for its timeout does so while the other tests run."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def test_a_future_timeout_is_listed(stack: Stack, since_a_crash: Unpaid) -> None:
    """This is the first test in this file, before the timeout fires."""
    due = json.loads(told_by(stack, "schedules", "list", "--json"))["schedules"]
    assert since_a_crash.order in [each["key"] for each in due]


def test_an_order_is_reserved_paid_and_shipped(http: httpx.Client) -> None:
    tea, cup = stocked(http), stocked(http)
    order = placed(http, tea, cup)
    wait_for(lambda: stage(http, order) == "awaiting-payment")
    assert [available(http, sku) for sku in (tea, cup)] == [4, 4]
    paid = http.post(f"/orders/{order}/pay", headers={"Prefer": "wait=10"})
    assert (paid.status_code, paid.headers["preference-applied"]) == (202, "wait=10")
    # The views show the payment now, and what the process does on it when it is done.
    assert stage(http, order) in ("paid", "shipped")
    wait_for(lambda: stage(http, order) == "shipped")
    wait_for(lambda: process(http, order)["status"] == "ended")
    told = process(http, order)
    assert told["state"]["shipped"] is True
    assert told["steps"][0]["type"] == "ProcessSawEvent"
    sent = [
        each["command"]
        for step in told["steps"]
        for each in step["data"].get("decided", ())
        if each["type"] == "send"
    ]
    assert sent == ["reserve-stock", "reserve-stock", "ship-order"]


def test_an_order_without_stock_for_its_second_line_is_compensated(http: httpx.Client) -> None:
    tea = stocked(http)
    order = placed(http, tea, f"lacking-{uuid4()}")
    wait_for(lambda: stage(http, order) == "cancelled")
    wait_for(lambda: available(http, tea) == 5)
    wait_for(lambda: process(http, order)["status"] == "ended")
    types = [step["type"] for step in process(http, order)["steps"]]
    assert "ProcessCommandRejected" in types


def test_an_order_that_does_not_ask_for_it_is_left_alone(http: httpx.Client) -> None:
    order = placed(http, "nothing", fulfil=False)
    for step in ("pay", "ship"):
        assert http.post(f"/orders/{order}/{step}").status_code == 202
    assert http.get(f"/processes/fulfilment/{order}").status_code == 404


def test_its_actors_are_scaled_and_come_back_when_they_are_killed(
    http: httpx.Client, stack: Stack
) -> None:
    tea = stocked(http, 100)
    before = [placed(http, tea) for _ in range(4)]
    told_by(stack, "scale", "process:fulfilment", "2")
    parts = actors(http)
    assert [part["part"] for part in parts] == ["process:fulfilment#0", "process:fulfilment#1"]
    assert all({"node", "position", "lag", "timers", "parked"} <= part.keys() for part in parts)
    during = [placed(http, tea) for _ in range(4)]
    for part in parts:
        os.kill(part["pid"], signal.SIGKILL)
    after = [placed(http, tea) for _ in range(4)]
    orders = [*before, *during, *after]
    for order in orders:
        wait_for(lambda order=order: stage(http, order) == "awaiting-payment")
        assert http.post(f"/orders/{order}/pay").status_code == 202
    for order in orders:
        wait_for(lambda order=order: stage(http, order) == "shipped")
    assert available(http, tea) == 100 - len(orders)
    wait_for(lambda: all(part["ready"] for part in actors(http)))
    assert {part["restarts"] for part in actors(http)} == {1}
    for target, number in (
        ("process:fulfilment", "0"),
        ("process:fulfilment", "65"),
        ("process:nobody", "1"),
        ("process", "1"),
    ):
        refused = ran(stack, "scale", target, number)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    told_by(stack, "scale", "process:fulfilment", "1")
    order = placed(http, tea)
    wait_for(lambda: stage(http, order) == "awaiting-payment")


def test_a_scheduled_command_is_sent_later_or_cancelled(http: httpx.Client, stack: Stack) -> None:
    tea, cup = stocked(http), stocked(http)
    body = {"quantity": 2}
    never = {"Rayfold-Not-Before": "9999-12-31T23:59:59Z", "Idempotency-Key": f"never {cup}"}
    assert http.post(f"/stock/{cup}/reserve", json=body, headers=never).status_code == 202
    now = {"Rayfold-Not-Before": "2000-01-01T00:00:00Z"}
    told = http.post(f"/stock/{tea}/reserve", json=body, headers=now).json()
    assert told["status"] == "scheduled"
    about = f"/commands/{told['command_id']}"
    wait_for(lambda: http.get(about).json()["status"] == "projected")
    assert available(http, tea) == 3
    wait_for(lambda: f"reserve-stock stock-{cup}" in told_by(stack, "schedules", "list"))
    assert "cancelled" in told_by(stack, "schedules", "cancel", f"never {cup}")
    assert f"stock-{cup}" not in told_by(stack, "schedules", "list")
    refused = ran(stack, "schedules", "cancel", told["command_id"])
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert available(http, cup) == 5


def test_the_command_line_lists_and_shows_processes(http: httpx.Client, stack: Stack) -> None:
    order = placed(http, stocked(http))
    wait_for(lambda: stage(http, order) == "awaiting-payment")
    assert f"fulfilment {order} open" in told_by(stack, "processes", "list")
    shown = json.loads(told_by(stack, "processes", "show", "fulfilment", order))
    assert shown["timeouts"].keys() == {"payment"}
    assert "aborted" in told_by(stack, "processes", "abort", "fulfilment", order)
    wait_for(lambda: process(http, order)["status"] == "ended")
    assert stage(http, order) == "cancelled"
    refused = ran(stack, "processes", "retry", "fulfilment", order)
    told = f"rayfold: no process 'fulfilment' of key {order!r} is parked\n"
    assert (refused.returncode, refused.stderr) == (2, told)


def test_an_unpaid_order_is_compensated_after_its_timeout(
    http: httpx.Client, before_a_crash: Unpaid, since_a_crash: Unpaid
) -> None:
    for waited in (before_a_crash, since_a_crash):
        wait_for(lambda waited=waited: stage(http, waited.order) == "cancelled")
        wait_for(lambda waited=waited: available(http, waited.sku) == 5)
        decided = (step["data"].get("decided", ()) for step in process(http, waited.order)["steps"])
        sent = {each.get("command_id"): each.get("command") for step in decided for each in step}
        assert sent[expiry_of(waited.order)] == "expire-order"
    assert http.get("/operators/verify").json() == {"differences": []}
    [part] = actors(http)
    assert (part["ready"], part["parked"]) == (True, 0)


@pytest.fixture
def moved(folder: Path, environment: dict[str, str]) -> Iterator[Stack]:
    """Another stack, once a test has started it."""
    made = Stack(folder / "moved", **environment)
    yield made
    if made.started:
        assert made.stop() == 0


def test_a_stack_on_a_copy_of_the_log_continues_the_processes(
    stack: Stack, moved: Stack, receiver: ReceiverProcess
) -> None:
    """This is the last test in this file, because it stops the stack."""

    def told(order: str) -> Counter[str]:
        return Counter(each["type"] for each in receiver.taken() if each["subject"] == order)

    with httpx.Client(base_url=stack.url, timeout=60) as http:
        tea, cup = stocked(http), stocked(http)
        ada = {"customer_id": str(uuid4()), "name": "Ada", "email": "ada@example.org"}
        bob = {**ada, "customer_id": str(uuid4())}
        gone = placed(http, cup, fulfil=False)
        assert {http.post("/customers", json=each).status_code for each in (ada, bob)} == {202}
        for stream in (f"order-{gone}", f"customer-{bob['customer_id']}"):
            told_by(stack, "delete", stream, "--yes")
        shipped, untold = placed(http, tea), placed(http, tea)
        for order in (shipped, untold):
            wait_for(lambda order=order: stage(http, order) == "awaiting-payment")
        assert http.post(f"/orders/{shipped}/pay").status_code == 202
        wait_for(lambda: told(shipped) == {"order-shipped": 1})
        wait_for(lambda: has_answers(http))  # what has none is sent again, as it must be
        receiver.kill()
        assert http.post(f"/orders/{untold}/pay").status_code == 202
        wait_for(lambda: untold in told_by(stack, "publications", "list"))  # it is parked
        wait_for(lambda: process(http, untold)["status"] == "ended")
        unpaid = placed(http, tea)
        wait_for(lambda: stage(http, unpaid) == "awaiting-payment")
        soon = datetime.now(UTC) + timedelta(seconds=10)
        later = {"Rayfold-Not-Before": soon.isoformat()}
        sent = http.post(f"/stock/{cup}/reserve", json={"quantity": 2}, headers=later).json()
        about = f"/commands/{sent['command_id']}"
        steps = process(http, untold)["steps"]
        customer = http.get(f"/customers/{ada['customer_id']}").json()
        assert stage(http, unpaid) == "awaiting-payment"
        assert http.get(about).json()["status"] == "scheduled"
        wait_for(lambda: has_answers(http))
    before = Counter(each["id"] for each in receiver.taken())
    assert stack.stop() == 0

    with store(stack.data) as source, store(moved.data) as target:
        copying = [*rayfold(), "copy", "--from", source, "--to", target]
        done = subprocess.run(copying, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "next: start a stack on the copy" in done.stdout
    receiver.start()
    moved.start()
    with httpx.Client(base_url=moved.url, timeout=60) as http:
        wait_for(lambda: told(untold) == {"order-shipped": 1})
        wait_for(lambda: stage(http, unpaid) == "cancelled")
        wait_for(lambda: told(unpaid) == {"order-cancelled": 1})
        wait_for(lambda: http.get(about).json()["status"] == "projected")
        wait_for(lambda: [available(http, sku) for sku in (tea, cup)] == [3, 3])
        there = process(http, untold)["steps"]
        assert [each["data"].get("decided") for each in there] == [
            each["data"].get("decided") for each in steps
        ]
        assert http.get(f"/customers/{ada['customer_id']}").json() == customer
        assert http.get("/operators/verify").json() == {"differences": []}
        for path in (f"/orders/{gone}", f"/customers/{bob['customer_id']}"):
            assert http.get(path).status_code == 404
        # They count on where they ended.
        anew = {"order_id": gone, "customer_id": "b"}
        assert http.post("/orders", json=anew).json()["revision"] == 3
        assert http.post("/customers", json=bob).json()["revision"] == 1
        assert http.get("/operators/verify").json() == {"differences": []}
        [part] = actors(http)
        assert (part["ready"], part["parked"]) == (True, 0)
    since = Counter(each["id"] for each in receiver.taken()) - before
    assert set(since.values()) == {1}
    assert not since.keys() & before.keys()  # nobody was told anything again


@contextmanager
def store(data: Path) -> Iterator[str]:
    """The log of a stack that is stopped, or that is to be."""
    yield from serve_store(data / "eventstore")


def actors(http: httpx.Client, kind: str = "process") -> list[dict[str, Any]]:
    parts = http.get("/operators/status").json()["parts"]
    return [part for part in parts if part["kind"] == kind]


def has_answers(http: httpx.Client) -> bool:
    """Whether the receiver has answered all that it was told, or that is parked."""
    [part] = actors(http, "publication")
    return bool(part["ready"]) and part["waiting"] == part["failing"] == 0


def stocked(http: httpx.Client, quantity: int = 5) -> str:
    sku = f"sku-{uuid4()}"
    receipt = http.post(f"/stock/{sku}/receive", json={"quantity": quantity})
    assert receipt.status_code == 202
    return sku


def expiry_of(order: str) -> str:
    """Return the id of the command that ends an order which nobody pays."""
    return str(Fulfilment.__rayfold__.command_id(order, "timeout:payment:1/0", 0))


def placed(
    http: httpx.Client, *skus: str, fulfil: bool = True, order: str = "", key: str = ""
) -> str:
    order = order or str(uuid4())
    assert http.post("/orders", json={"order_id": order, "customer_id": "a"}).status_code == 202
    for sku in skus:
        line = {"sku": sku, "quantity": 1, "unit_price_cents": 450}
        headers = {"Idempotency-Key": key or str(uuid4())}
        assert http.post(f"/orders/{order}/lines", json=line, headers=headers).status_code == 202
    body = {"fulfil": True} if fulfil else None
    wait = {"Prefer": "wait=10"}
    assert http.post(f"/orders/{order}/place", json=body, headers=wait).status_code == 202
    if fulfil:
        assert stage(http, order) is not None  # the view has it already
    return order


def stage(http: httpx.Client, order: str) -> str | None:
    answer = http.get(f"/fulfilments/{order}")
    return str(answer.json()["stage"]) if answer.status_code == 200 else None


def available(http: httpx.Client, sku: str) -> int:
    return int(http.get(f"/stock/{sku}").json()["available"])


def process(http: httpx.Client, order: str) -> dict[str, Any]:
    answer = http.get(f"/processes/fulfilment/{order}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ran(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*rayfold(), *arguments, "--data", str(stack.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def told_by(stack: Stack, *arguments: str) -> str:
    done = ran(stack, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)
