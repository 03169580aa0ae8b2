"""The market as `rayfold up` runs it, and its switches."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT
from tests.ports import free_port
from tests.stack import Stack

TOKENS = {
    "olga": {"token": "an-operators-token", "role": "operator"},
    "shop": {"token": "the-writers-token", "role": "writer"},
    "rita": {"token": "the-readers-token", "role": "reader"},
}
DEADLINE = 60.0
"""Seconds for whatever is waited for."""


@dataclass
class Market:
    """The stack, and its switches."""

    stack: Stack
    folder: Path
    http: httpx.Client

    def switch(self, name: str, *, on: bool) -> None:
        """Let a view or a process break, or be well: see the domain."""
        file = self.folder / name
        file.touch() if on else file.unlink(missing_ok=True)

    def send(self, command: str, *, wait: int = 10, **fields: Any) -> dict[str, Any]:
        """Send a command as the shop, and wait so long for its views; return the receipt."""
        headers = {"authorization": f"Bearer {TOKENS['shop']['token']}", "prefer": f"wait={wait}"}
        answer = self.http.post(f"/commands/{command}", json=fields, headers=headers)
        assert answer.status_code == 202, answer.text
        receipt: dict[str, Any] = answer.json()
        return receipt

    def order(self, order_id: str, *skus: str, customer: str = "ada", placed: bool = False) -> str:
        """Make an order; return the id of its last command."""
        last = self.send("open-order", order_id=order_id, customer=customer)
        for sku in skus:
            last = self.send("add-item", order_id=order_id, sku=sku, quantity=2, note=f"some {sku}")
        if placed:
            last = self.send("place-order", order_id=order_id)
        return str(last["command_id"])

    def ask(self, path: str) -> Any:
        """Return what an operator is told."""
        headers = {"authorization": f"Bearer {TOKENS['olga']['token']}"}
        answer = self.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, path: str, **fields: Any) -> None:
        """Do as an operator does by the API."""
        headers = {"authorization": f"Bearer {TOKENS['olga']['token']}"}
        answer = self.http.post(path, json=fields, headers=headers)
        assert answer.status_code in (200, 202), answer.text

    def parked(self, view: str) -> set[str]:
        """Return the keys that are parked in a view."""
        found = self.ask("/operators/parked")["parked"]
        return {each["key"] for each in found if each["view"] == view}

    async def until(self, holds: Callable[[], Any]) -> None:
        """Return once it holds."""
        deadline = time.monotonic() + DEADLINE
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@contextmanager
def market_stack() -> Iterator[Market]:
    """Run it with a few orders; what it publishes, nobody takes."""
    with tempfile.TemporaryDirectory(prefix="rf-market-") as name:
        folder = Path(name)
        nobody = {
            "url": f"http://127.0.0.1:{free_port()}/news",
            "secret": "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0IQ==",
            "private_addresses": True,
            "timeout": 2,
            "park_after": 0.1,
            "retry_parked": 600,
        }
        stack = Stack(
            folder / "data",
            RAYFOLD_DOMAIN="tests.integration.console.market",
            RAYFOLD_TOKENS=json.dumps(TOKENS),
            RAYFOLD_PUBLICATIONS=json.dumps({"order-news": nobody}),
            MARKET_FOLDER=name,
            PYTHONPATH=str(ROOT),
        )
        stack.start()
        try:
            with httpx.Client(base_url=stack.url, timeout=60) as http:
                made = Market(stack, folder, http)
                made.order("1001", "tea", "cup", "honey")
                made.order("1002", "tea", customer="grace", placed=True)
                yield made
            assert stack.stop() == 0
        except BaseException:
            stack.kill()
            raise
