"""A market as `rayfold up` runs it, a browser before its console, and a hostile host beside it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.conftest import ROOT
from tests.integration.console.operator import Operator
from tests.stack import Stack, free_port

TOKENS = {
    "olga": {"token": "an-operators-token", "role": "operator"},
    "shop": {"token": "the-writers-token", "role": "writer"},
}
REBOUND = "rebound.example"
"""A name of somebody else's that leads to this machine."""

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-quic", "--no-first-run"),
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
)
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


@pytest.fixture(scope="module")
def market() -> Iterator[Market]:
    """Return it with a few orders; what it publishes, nobody takes."""
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


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Return Debian's Chromium."""
    found = shutil.which("chromium")
    assert found, "these tests drive Debian's chromium: `make servers` installs it"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        await running.close()


@pytest.fixture(scope="module")
async def signed_in(browser: Browser, market: Market) -> AsyncIterator[BrowserContext]:
    """Return a window in which an operator has signed in."""
    context = await browser.new_context(base_url=market.stack.url)
    context.set_default_timeout(DEADLINE * 1000)
    page = await context.new_page()
    await page.goto("/console")
    await page.get_by_label("An operator’s token").fill(TOKENS["olga"]["token"])
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_selector("nav[aria-label=Console]")
    await page.close()
    yield context
    await context.close()


@pytest.fixture
async def operator(signed_in: BrowserContext) -> AsyncIterator[Operator]:
    """Return the operator before a page of her own; at its end nothing has gone wrong in it."""
    page = await signed_in.new_page()
    await page.set_viewport_size({"width": 1280, "height": 860})
    operator = Operator(page)
    yield operator
    await page.close()
    assert operator.wrongs == []
