"""A rule over two aggregates under load, as one decision and as a saga, while hosts are killed.

    python -m loadtests.coupons                  both, one after the other
    python -m loadtests.coupons --kills 0        the same in peace
    python -m loadtests.coupons --customers 300  no coupon of 1,000 is used up by 300, twice each

Clients redeem one coupon for customers at random, each request again with the same key until it has
an answer. At the end as many as may be are redeemed, none more, and nobody more than twice.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

START_TIMEOUT = 180.0
"""Seconds that a whole stack may take to start on a busy machine."""

ANSWER_TIMEOUT = 120.0
"""Seconds within which a redemption must be answered, whatever dies meanwhile."""

PAUSE = 0.05
"""Seconds until a client repeats a request without an answer."""

EACH = 2
"""How often one customer may redeem the coupon."""


@dataclass
class Load:
    """The load on a stack. `kills` is how many hosts are killed, `interval` seconds apart."""

    clients: int = 64
    customers: int = 600
    times: int = 1000
    kills: int = 6
    interval: float = 1.5

    @property
    def wanted(self) -> int:
        """How many coupons can be redeemed."""
        return min(self.times, EACH * self.customers)


@dataclass
class Outcome:
    """The result. Latencies are in seconds, from the first attempt to the answer."""

    redeemed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    repeats: int = 0
    killed: int = 0
    conflicts: dict[str, int] = field(default_factory=dict)
    """Conflicts by the incarnation of the host that met them."""
    seconds: float = 0.0
    differences: int = 0

    def lines(self) -> list[tuple[str, str]]:
        """Return the lines of the report."""
        total = self.redeemed.total()
        quantiles = statistics.quantiles(self.latencies, n=100) if total > 1 else [0.0] * 99
        return [
            ("redeemed", f"{total}"),
            ("by one customer at most", f"{max(self.redeemed.values(), default=0)}"),
            ("refused", ", ".join(f"{n} {rule}" for rule, n in self.refused.items()) or "0"),
            ("seconds", f"{self.seconds:.1f}"),
            ("redeemed a second", f"{total / self.seconds:.0f}"),
            ("latency, median", f"{quantiles[49] * 1000:.0f} ms"),
            ("latency, p99", f"{quantiles[98] * 1000:.0f} ms"),
            ("conflicts", f"{sum(self.conflicts.values())}"),
            ("hosts killed", f"{self.killed}"),
            ("sent again", f"{self.repeats}"),
            ("verify", f"{self.differences} differences"),
        ]


async def run(url: str, load: Load, *, saga: bool = False) -> Outcome:
    """Redeem a new coupon until it is used up, or all customers have; return the result."""
    outcome, coupon = Outcome(), f"c-{uuid4().hex[:12]}"
    limits = httpx.Limits(max_connections=load.clients + 2)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as http:
        issue = {"coupon_id": coupon, "times": load.times, "each": EACH}
        (await http.post("/coupons", json=issue)).raise_for_status()
        customers = [f"{coupon}-{number}" for number in range(load.customers)]
        client = _Client(http, coupon, customers, outcome, saga=saga)
        began = time.monotonic()
        watching = asyncio.create_task(_watch(http, outcome))
        killing = asyncio.create_task(_kill(http, load, outcome))
        await asyncio.gather(*(client.run() for _ in range(load.clients)))
        outcome.seconds = time.monotonic() - began
        for task in (killing, watching):
            task.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await asyncio.gather(killing, watching)
        await _see(http, outcome)
        if not saga:
            await _compare_with_the_log(http, coupon, outcome)
        found = await _patiently(lambda: http.get("/operators/verify", timeout=60))
        outcome.differences = len(found.json()["differences"])
    return outcome


class _Client:
    """Many clients, which share the knowledge of customers who have redeemed enough."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        coupon: str,
        customers: list[str],
        outcome: Outcome,
        *,
        saga: bool,
    ) -> None:
        self._http = http
        self._coupon = coupon
        self._open = set(customers)
        self._outcome = outcome
        self._redeem = self._by_saga if saga else self._by_decision
        self._over = False

    async def run(self) -> None:
        """Redeem for random customers until nothing is left to redeem."""
        while self._open and not self._over:
            customer = random.choice(tuple(self._open))
            began = time.monotonic()
            rule = await self._redeem(customer)
            self._outcome.latencies.append(time.monotonic() - began)
            if not rule:
                self._outcome.redeemed[customer] += 1
                continue
            self._outcome.refused[rule] += 1
            if rule == "customer-used-up":
                self._open.discard(customer)
            else:
                self._over = True

    async def _by_decision(self, customer: str) -> str:
        """Return the rule that refused it; "" if it was redeemed."""
        path, body = f"/coupons/{self._coupon}/redemptions", {"customer_id": customer}
        answer = await self._until_answered(path, body)
        return "" if answer.status_code == 202 else str(answer.json()["code"])

    async def _by_saga(self, customer: str) -> str:
        body = {"coupon_id": self._coupon, "customer_id": customer}
        answer = await self._until_answered("/redemptions", body)
        token = answer.headers["consistency-token"]
        path = answer.headers["location"]
        until = time.monotonic() + ANSWER_TIMEOUT
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                found = await self._http.get(path, headers={"consistency-token": token})
                if found.status_code == 200 and found.json()["status"] != "requested":
                    return str(found.json()["rule"])
            await asyncio.sleep(PAUSE)
        raise TimeoutError(f"{path} is not decided")

    async def _until_answered(self, path: str, body: dict[str, str]) -> httpx.Response:
        headers = {"idempotency-key": str(uuid4())}

        async def post() -> httpx.Response:
            return await self._http.post(path, json=body, headers=headers)

        def again() -> None:
            self._outcome.repeats += 1

        return await _patiently(post, again)


async def _patiently(ask: Any, again: Any = lambda: None) -> httpx.Response:
    """Repeat a request until there is an answer other than that a part is down."""
    until = time.monotonic() + ANSWER_TIMEOUT
    while True:
        with suppress(httpx.HTTPError):
            answer: httpx.Response = await ask()
            if answer.status_code < 500:
                return answer
        if time.monotonic() > until:
            raise TimeoutError(f"no answer within {ANSWER_TIMEOUT} s")
        again()
        await asyncio.sleep(PAUSE)


async def _see(http: httpx.AsyncClient, outcome: Outcome) -> list[int]:
    """Record the conflicts of the hosts that answer; return their process ids."""
    parts = (await http.get("/operators/status")).json()["parts"]
    hosts = [part for part in parts if part["part"].startswith("write#") and part["ready"]]
    for host in hosts:
        outcome.conflicts[host["incarnation"]] = host["conflicts"]
    return [host["pid"] for host in hosts]


async def _watch(http: httpx.AsyncClient, outcome: Outcome) -> None:
    while True:
        await asyncio.sleep(0.5)
        with suppress(httpx.HTTPError):
            await _see(http, outcome)


async def _kill(http: httpx.AsyncClient, load: Load, outcome: Outcome) -> None:
    while outcome.killed < load.kills:
        await asyncio.sleep(load.interval)
        with suppress(httpx.HTTPError, ProcessLookupError, IndexError):
            os.kill(random.choice(await _see(http, outcome)), signal.SIGKILL)
            outcome.killed += 1


async def _compare_with_the_log(http: httpx.AsyncClient, coupon: str, outcome: Outcome) -> None:
    """Check that the clients' answers agree with the coupon's events."""
    history = (await _patiently(lambda: http.get(f"/coupons/{coupon}/history"))).json()
    said = Counter(
        each["data"]["customer_id"] for each in history if each["type"] == "CouponRedeemed"
    )
    if said != outcome.redeemed:
        raise AssertionError(f"clients were told of {outcome.redeemed}, the log has {said}")


@contextmanager
def serving(domain: str, hosts: int) -> Iterator[str]:
    """Run a whole stack with that domain and number of write hosts; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="rf-coupons-") as folder:
        Path(folder).chmod(0o755)  # Postgres changes its user when it is started as root
        command = "from deploy.cli import main; main()"
        arguments = ["up", "--port", str(port), "--data", f"{folder}/data", "--domain", domain]
        process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments],
            env={**os.environ, "RAYFOLD_WRITE_HOSTS": str(hosts)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + START_TIMEOUT
        try:
            while not _serves(url):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("rayfold up does not serve")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _serves(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health/parts", timeout=5).status_code == 200
    return False


def main() -> None:
    """Run both variants and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in vars(Load()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--only", choices=["decision", "saga"])
    options = vars(parser.parse_args())
    hosts, only = options.pop("hosts"), options.pop("only")
    load = Load(**options)
    found: dict[str, Outcome] = {}
    for name, domain in (
        ("decision", "examples.coupons"),
        ("saga", "examples.coupons_by_saga"),
    ):
        if only in (None, name):
            with serving(domain, hosts) as url:
                found[name] = asyncio.run(run(url, load, saga=name == "saga"))
    print(f"{load}, {hosts} hosts; as many as can be redeemed: {load.wanted}")
    for name, outcome in found.items():
        print(f"\n{name}")
        for what, value in outcome.lines():
            print(f"  {what:24}{value}")
    for outcome in found.values():
        assert outcome.redeemed.total() == load.wanted
        assert max(outcome.redeemed.values()) <= EACH
        assert outcome.differences == 0


if __name__ == "__main__":
    main()
