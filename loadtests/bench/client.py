"""A cheap HTTP client in a process of its own, so that its CPU is not counted as the server's.

python -m loadtests.bench.client '{"port": …, "work": …}' prints a JSON object.

It implements the HTTP that a benchmark needs: keep-alive, Content-Length, one request at a time on
a connection. Every status is counted, and the first failures keep their messages.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import uvloop

from loadtests.bench.answers import Answers

SHELF = 8
"""Stock items from which orders are fulfilled: few, as each has a dedicated actor."""

LATE = 10.0
"""Seconds that a request may last beyond the end of the measurement."""


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP/1.1 request; headers are given with underscores."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionError("closed by the server"))

    def ask(self, text: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Return the status, and the whole response with its head."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(text)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0 or self._waiting is None:
            return
        at = self._received.lower().find(b"content-length:", 0, head)
        size = int(self._received[at + 15 : self._received.find(b"\r", at)]) if at > 0 else 0
        if len(self._received) < head + 4 + size:
            return
        response, self._received = self._received, b""
        if not self._waiting.done():
            self._waiting.set_result((int(response[9:12]), response))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


async def connect(port: int) -> Connection:
    """Return a new connection to 127.0.0.1."""
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, "127.0.0.1", port
    )
    return connection


def line_of(number: int) -> bytes:
    """Return the body of an added line; SKUs repeat, to bound an order's size."""
    return b'{"sku":"sku-%d","quantity":1,"unit_price_cents":100}' % (number % 20)


def address_of(number: int) -> bytes:
    """Return the body of an address; labels repeat, to bound a customer's addresses."""
    return (
        b'{"label":"home-%d","street":"%d Mill Lane","postal_code":"N1","city":"London",'
        b'"country":"GB"}' % (number % 20, number)
    )


def header(response: bytes, name: bytes) -> str:
    """Return a response header's value."""
    at = response.lower().index(name + b":")
    return response[at + len(name) + 1 : response.index(b"\r", at)].strip().decode()


async def seed(port: int, orders: int, lines: int) -> list[str]:
    """Create orders with lines; return their ids."""
    ids = [str(uuid4()) for _ in range(orders)]
    waiting = list(ids)

    async def some() -> None:
        connection = await connect(port)
        while waiting:
            order = waiting.pop()
            body = json.dumps({"order_id": order, "customer_id": "somebody"}).encode()
            status, response = await connection.ask(request("POST", "/orders", body))
            assert status == 202, response
            for number in range(lines):
                text = request("POST", f"/orders/{order}/lines", line_of(number))
                status, response = await connection.ask(text)
                assert status == 202, response
        connection.close()

    await asyncio.gather(*(some() for _ in range(16)))
    return ids


async def seed_customers(port: int, customers: int) -> list[str]:
    """Create customers; return their ids."""
    ids = [str(uuid4()) for _ in range(customers)]
    connection = await connect(port)
    for customer in ids:
        fields = {"customer_id": customer, "name": "Ada", "email": "ada@example.org"}
        text = request("POST", "/customers", json.dumps(fields).encode())
        status, response = await connection.ask(text)
        assert status == 202, response
    connection.close()
    return ids


async def closed(port: int, clients: int, seconds: float, make: Callable[[], bytes]) -> Any:
    """Run this number of clients, each with one request at a time."""
    latencies: list[float] = []
    answers = Answers()
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = await connect(port)
        now = time.perf_counter()
        while now < until:
            try:
                answer = await asyncio.wait_for(connection.ask(make()), seconds + LATE)
            except (OSError, TimeoutError) as error:
                answers.broke(error)
                return
            after = time.perf_counter()
            latencies.append(after - now)
            answers.take(*answer)
            now = after
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - began
    return summary(latencies, answers) | {"per_second": len(latencies) / took}


async def stock_up(port: int) -> None:
    """Stock up on all items that `fulfil` orders."""
    connection = await connect(port)
    for number in range(SHELF):
        text = request("POST", f"/stock/shelf-{number}/receive", b'{"quantity":1000000}')
        status, response = await connection.ask(text)
        assert status == 202, response
    connection.close()


async def fulfil(port: int, clients: int, seconds: float) -> Any:
    """Run orders that a process fulfils, one at a time per client. See `stock_up`."""
    latencies: list[float] = []
    answers = Answers()
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = await connect(port)
        sku = f"shelf-{number % SHELF}"

        async def send(path: str, **fields: Any) -> None:
            answers.take(*await connection.ask(request("POST", path, json.dumps(fields).encode())))

        while (now := time.perf_counter()) < until:
            order = str(uuid4())
            await send("/orders", order_id=order, customer_id="somebody")
            await send(f"/orders/{order}/lines", sku=sku, quantity=1, unit_price_cents=100)
            await send(f"/orders/{order}/place", fulfil=True)
            await send(f"/orders/{order}/pay")
            latencies.append(time.perf_counter() - now)
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return summary(latencies, answers)


async def lag(port: int, orders: list[str], rate: float, seconds: float, store: str) -> Any:
    """Write at a steady rate; poll every tenth write until it is visible in the store.

    Visible means that a query with the receipt's token answers. The query's time is included.
    """
    commands: list[float] = []
    lags: list[float] = []
    answers = Answers()
    free: list[Connection] = [await connect(port) for _ in range(64)]
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        connection = free.pop() if free else await connect(port)
        order = random.choice(orders)
        began = time.perf_counter()
        text = request("POST", f"/orders/{order}/lines", line_of(number))
        status, response = await connection.ask(text)
        received = time.perf_counter()
        commands.append(received - began)
        answers.take(status, response)
        if number % 10 == 0 and status == 202:
            token = header(response, b"consistency-token")
            ask = request(
                "GET",
                f"/orders/{order}",
                Consistency_Token=token,
                Prefer="wait=10",
                Rayfold_Store=store,
            )
            answers.take(*await connection.ask(ask), "read ")
            lags.append(time.perf_counter() - received)
        free.append(connection)

    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    took = time.perf_counter() - began
    await asyncio.wait_for(asyncio.gather(*tasks), LATE)
    written = summary(commands, answers) | {"per_second": int(rate * seconds) / took}
    return written | {"lag": summary(lags, Answers())}


def summary(seconds: list[float], answers: Answers) -> dict[str, Any]:
    """Return percentiles in milliseconds, and the counts of answers."""
    ordered = sorted(seconds) or [0.0]

    def at(share: float) -> float:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000

    return {
        "count": len(seconds),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        **answers.told(),
    }


async def run(task: dict[str, Any]) -> Any:
    """Run the task of the command line; return its result."""
    port, work = task["port"], task["work"]
    if work == "seed":
        return await seed(port, task["orders"], task["lines"])
    if work == "stock":
        return await stock_up(port)
    if work == "fulfil":
        return await fulfil(port, task["clients"], task["seconds"])
    if work == "seed customers":
        return await seed_customers(port, task["customers"])
    orders = [str(UUID(order)) for order in task["orders"]]
    if work == "lag":
        return await lag(port, orders, task["rate"], task["seconds"], task["store"])
    turn = iter(range(sys.maxsize))
    reads = [request("GET", f"/orders/{order}") for order in orders]
    if work in ("redis", "postgres"):
        reads = [
            request("GET", f"/customers/{customer}", Rayfold_Store=work) for customer in orders
        ]

    def make() -> bytes:
        number = next(turn)
        if work in ("read", "redis", "postgres"):
            return reads[number % len(reads)]
        if work == "stored":
            path = f"/customers/{orders[number % len(orders)]}/addresses"
            return request("POST", path, address_of(number))
        order = orders[0] if work == "hot" else orders[number % len(orders)]
        return request("POST", f"/orders/{order}/lines", line_of(number))

    return await closed(port, task["clients"], task["seconds"], make)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(run(json.loads(sys.argv[1])))))
