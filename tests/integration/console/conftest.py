"""A market as `rayfold up` runs it, a browser before its console, and a hostile host beside it.

They are those of the folder: a stack, a browser and a window for all of its tests.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.integration.console.market_stack import DEADLINE, TOKENS, Market, market_stack
from tests.integration.console.operator import Operator

REBOUND = "rebound.example"
"""A name of somebody else's that leads to this machine."""

PUBLIC = "shop.example"
"""The name under which the console is reached from elsewhere, by TLS."""

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-quic", "--no-first-run"),
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP {PUBLIC} 127.0.0.1",
)
expect.set_options(timeout=DEADLINE * 1000)


@pytest.fixture(scope="package")
def market() -> Iterator[Market]:
    """Return it with a few orders; what it publishes, nobody takes."""
    with market_stack() as made:
        yield made


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """Return Debian's Chromium."""
    found = shutil.which("chromium")
    assert found, "these tests need Debian's chromium: `make servers` installs it"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        await running.close()


@pytest.fixture(scope="package")
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
