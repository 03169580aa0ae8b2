"""Order traffic for locust: ten queries to one command, without think time.

    locust -f loadtests/locustfile.py --headless --users 50 --spawn-rate 25 --run-time 30s \\
        --host http://127.0.0.1:8000

`RAYFOLD_USERS` chooses other users, by name and separated by commas: `Shopper` (10:1, the
default), `Browser` (100:1), `Buyer` (commands alone), `Reader` (queries alone), `HotOrder`
(everybody adds to one order), `FlashSale` (many buyers, few items), `Fulfilled` (orders that the
saga ships or cancels). `RAYFOLD_SHAPE` is `ramp`, `spike` or `soak`; see `shapes.py`.

Beside latency the report has rows of type LAG: milliseconds from a receipt until a query
without a token shows the effect. Rows of type SAGA: milliseconds from an order's payment until its
fulfilment has shipped it.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, constant, events, task

ALL: list[type[FastHttpUser]] = []
CHOSEN = os.environ.get("RAYFOLD_USERS", "Shopper").split(",")

SKUS = [f"sku-{number}" for number in range(50)]
HOT = str(uuid4())
FLASH = f"flash-{uuid4().hex[:8]}"
FLASH_ITEMS = 100
SHELF = [f"shelf-{number}" for number in range(10)]
FULFILMENT_TIMEOUT = 30.0

LAG_EVERY = 50
"""One in this many commands is polled until it is visible."""


class Customer(FastHttpUser):
    """A user with an order of their own, who also reads other orders."""

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        """Begin with one order."""
        self.seen: list[tuple[str, str]] = []
        self.steps = 0
        self.create()

    def create(self) -> None:
        """Begin a new order, which the next steps fill."""
        self.order = str(uuid4())
        self.added = 0
        body = {"order_id": self.order, "customer_id": f"customer-{random.randrange(1000)}"}
        self.command("/orders", body, "POST /orders")

    def step(self) -> None:
        """Send the next command in an order's life: create, three lines, place, and again."""
        if self.added < 3:
            line = {
                "sku": SKUS[self.added],
                "quantity": random.randint(1, 5),
                "unit_price_cents": 100,
            }
            path = f"/orders/{self.order}/lines"
            if self.command(path, line, "POST /orders/{id}/lines"):
                self.added += 1
        else:
            self.command(f"/orders/{self.order}/place", None, "POST /orders/{id}/place")
            self.create()

    def look(self) -> None:
        """Read an order, at least as new as this user knows it."""
        order, token = random.choice(self.seen) if self.seen else (self.order, "0")
        with self.client.get(
            f"/orders/{order}",
            headers={"Consistency-Token": token},
            name="GET /orders/{id}",
            catch_response=True,
        ) as answer:
            if answer.status_code == 202:
                answer.request_meta["name"] = "GET /orders/{id} (processing)"
                answer.success()

    def command(self, path: str, body: Any, name: str) -> bool:
        """Send a command; a 503 is retried with the same key, as it asks for."""
        headers = {"Idempotency-Key": str(uuid4())}
        for _ in range(5):
            with self.client.post(
                path, json=body, headers=headers, name=name, catch_response=True
            ) as answer:
                if answer.status_code == 503 and "Retry-After" in (answer.headers or {}):
                    answer.request_meta["name"] = f"{name} (503, retried)"
                    answer.success()
                    time.sleep(float(answer.headers["Retry-After"]))
                    continue
                if answer.status_code != 202:
                    return False
                self._receipt(answer.json()["position"])
                return True
        return False

    def _receipt(self, position: int) -> None:
        self.seen.append((self.order, str(position)))
        del self.seen[:-20]
        self.steps += 1
        if self.steps % LAG_EVERY == 0:
            self._follow(position)

    def _follow(self, position: int) -> None:
        for store in ("memory", "postgres"):
            since = time.perf_counter()
            while time.perf_counter() - since < 10:
                answer = self.client.get(
                    f"/orders/{self.order}",
                    headers={"Rayfold-Store": store},
                    name=f"GET /orders/{{id}} ({store})",
                )
                token = answer.headers and answer.headers.get("Consistency-Token", "")
                if token and int(str(token)) >= position:
                    break
            self.environment.events.request.fire(
                request_type="LAG",
                name=f"receipt to visible in {store}",
                response_time=(time.perf_counter() - since) * 1000,
                response_length=0,
                exception=None,
                context={},
            )


class Shopper(Customer):
    """Ten queries to a command."""

    abstract = "Shopper" not in CHOSEN

    @task(10)
    def query(self) -> None:
        """Ask a query."""
        self.look()

    @task(1)
    def act(self) -> None:
        """Send a command."""
        self.step()


class Browser(Customer):
    """A hundred queries to a command."""

    abstract = "Browser" not in CHOSEN

    @task(100)
    def query(self) -> None:
        """Ask a query."""
        self.look()

    @task(1)
    def act(self) -> None:
        """Send a command."""
        self.step()


class Buyer(Customer):
    """Only commands."""

    abstract = "Buyer" not in CHOSEN

    @task
    def act(self) -> None:
        """Send a command."""
        self.step()


class Reader(Customer):
    """Only queries."""

    abstract = "Reader" not in CHOSEN

    @task
    def query(self) -> None:
        """Ask a query."""
        self.look()


class HotOrder(Customer):
    """All users add lines to the same order."""

    abstract = "HotOrder" not in CHOSEN

    def create(self) -> None:
        """Begin the common order; all but the first find that it exists."""
        self.order, self.added = HOT, 0
        with self.client.post(
            "/orders",
            json={"order_id": HOT, "customer_id": "everybody"},
            name="POST /orders",
            catch_response=True,
        ) as answer:
            if answer.status_code == 409:
                answer.success()

    @task
    def act(self) -> None:
        """Add a line."""
        line = {"sku": random.choice(SKUS), "quantity": 1, "unit_price_cents": 100}
        self.command(f"/orders/{HOT}/lines", line, "POST /orders/{hot}/lines")


class FlashSale(FastHttpUser):
    """Many buyers reserve one scarce item: the others get a refusal."""

    abstract = "FlashSale" not in CHOSEN
    wait_time = constant(0)

    @task
    def reserve(self) -> None:
        """Reserve one piece, if one is left."""
        with self.client.post(
            f"/stock/{FLASH}/reserve",
            json={"quantity": 1},
            name="POST /stock/{flash}/reserve",
            catch_response=True,
        ) as answer:
            if answer.status_code == 409:
                answer.success()  # sold out is an answer, not a failure
            elif answer.status_code == 202:
                SOLD.append(answer.json()["revision"])


class Fulfilled(FastHttpUser):
    """Places orders that are fulfilled; pays most, and waits until each is shipped or cancelled."""

    abstract = "Fulfilled" not in CHOSEN
    wait_time = constant(0)

    @task
    def order(self) -> None:
        """Run one order to its end, and report how long its fulfilment took."""
        order, skus = str(uuid4()), random.sample(SHELF, 2)
        self._command("/orders", {"order_id": order, "customer_id": "ada"}, "POST /orders")
        for sku in skus:
            line = {"sku": sku, "quantity": 1, "unit_price_cents": 100}
            self._command(f"/orders/{order}/lines", line, "POST /orders/{id}/lines")
        self._command(f"/orders/{order}/place", {"fulfil": True}, "POST /orders/{id}/place")
        pays = random.random() < 0.9
        step = "pay" if pays else "cancel"
        since = time.perf_counter()
        self._command(f"/orders/{order}/{step}", None, f"POST /orders/{{id}}/{step}")
        wanted = ("shipped", "cancelled") if pays else ("cancelled",)
        late = None
        while self._stage(order) not in wanted:
            if time.perf_counter() - since > FULFILMENT_TIMEOUT:
                late = TimeoutError(f"{order} has not ended")
                break
            time.sleep(0.05)
        self.environment.events.request.fire(
            request_type="SAGA",
            name=f"{step} to {wanted[0]}",
            response_time=(time.perf_counter() - since) * 1000,
            response_length=0,
            exception=late,
            context={},
        )

    def _stage(self, order: str) -> str:
        with self.client.get(
            f"/fulfilments/{order}", name="GET /fulfilments/{id}", catch_response=True
        ) as answer:
            if answer.status_code in (200, 404):
                answer.success()
            return str(answer.json()["stage"]) if answer.status_code == 200 else ""

    def _command(self, path: str, body: Any, name: str) -> None:
        headers = {"Idempotency-Key": str(uuid4())}
        with self.client.post(
            path, json=body, headers=headers, name=name, catch_response=True
        ) as answer:
            if answer.status_code == 409:
                answer.success()  # the process has already shipped it


SOLD: list[int] = []


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def stock_up(environment: Any, **_: Any) -> None:
    """Stock the items that this run's users need."""
    import httpx

    wanted = {FLASH: FLASH_ITEMS} if "FlashSale" in CHOSEN else {}
    if "Fulfilled" in CHOSEN:
        wanted |= dict.fromkeys(SHELF, 1_000_000)
    for sku, quantity in wanted.items():
        httpx.post(
            f"{environment.host}/stock/{sku}/receive", json={"quantity": quantity}, timeout=30
        ).raise_for_status()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def count_what_was_sold(environment: Any, **_: Any) -> None:
    """Fail the run if there are more receipts than items: that is overselling."""
    if "FlashSale" in CHOSEN and len(set(SOLD)) > FLASH_ITEMS:
        environment.process_exit_code = 1
        raise AssertionError(f"{len(set(SOLD))} of {FLASH_ITEMS} items were sold")


if shape := os.environ.get("RAYFOLD_SHAPE"):
    from loadtests.shapes import SHAPES

    class Shape(SHAPES[shape]):  # type: ignore[misc,valid-type]
        """The selected shape, which locust finds here."""
