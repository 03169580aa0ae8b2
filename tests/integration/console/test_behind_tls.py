"""The console behind a proxy that ends TLS: forms, cookie, live pages and content policy hold."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.integration.console.conftest import PUBLIC
from tests.integration.console.market_stack import DEADLINE, TOKENS, Market
from tests.integration.console.operator import Operator
from tests.integration.console.tls_proxy import tls_proxy


@pytest.mark.parametrize("host", [None, "127.0.0.1:8000"], ids=["its host", "a host of its own"])
async def test_an_operator_signs_in_and_acts_behind_a_proxy(
    browser: Browser, market: Market, host: str | None
) -> None:
    async with tls_proxy(PUBLIC, market.stack.port, host=host) as port:
        context = await browser.new_context(
            base_url=f"https://{PUBLIC}:{port}", ignore_https_errors=True
        )
        context.set_default_timeout(DEADLINE * 1000)
        operator = Operator(await context.new_page())
        page = operator.page
        await operator.open("/views")
        await page.get_by_label("An operator’s token").fill(TOKENS["olga"]["token"])
        await operator.press("Sign in")
        await expect(page).to_have_url(f"https://{PUBLIC}:{port}/console/views")
        await expect(page.locator("#live-text")).to_have_text("live")
        [cookie] = await context.cookies()
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        assert await page.evaluate("document.cookie") == ""
        await operator.press("Scale memory")
        await page.get_by_role("dialog").get_by_label("How many").fill("1")
        await operator.confirm("Scale it")
        await operator.sees("memory: 1")
        await operator.press("Close")
        await operator.press("Sign out")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Operators’ console")
        assert await context.cookies() == []
        await context.close()
        assert operator.wrongs == []
