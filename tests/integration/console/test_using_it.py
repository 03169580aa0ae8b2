"""How the console is to use: on a phone, by keyboard, by everybody, live, without scripts."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Browser, BrowserContext, expect

from tests.integration.console.market_stack import Market
from tests.integration.console.operator import Operator
from tests.integration.console.pictures import ASKED_FOR, PAGES


async def test_every_page_can_be_used_on_a_phone_and_by_keyboard(operator: Operator) -> None:
    page = operator.page
    await page.set_viewport_size({"width": 390, "height": 844})
    for name, path in PAGES.items():
        await operator.open(path)
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, (name, wide)
        if ASKED_FOR and name == "overview":
            await page.wait_for_timeout(4000)
            await operator.picture("phone")
    await operator.open("/views")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    verify = page.get_by_role("link", name="Verify all")
    await verify.focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    await expect(dialog.get_by_role("heading")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(verify).to_be_focused()
    await operator.open("/views")
    scale = page.get_by_role("link", name="Scale orders in memory")
    await scale.focus()
    await page.keyboard.press("Enter")
    field = dialog.get_by_label("How many")
    await expect(dialog.get_by_role("heading")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(field).to_be_focused()
    await page.keyboard.type("1")
    await page.keyboard.press("Enter")
    await operator.sees("memory:orders: 1")


RULES: dict[Any, dict[str, Any]] = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},
}
"""In the dark nothing but colours is otherwise."""

SHOWN = {"light": ("overview", "views", "log", "aggregate", "audit"), "dark": ("overview",)}
"""Pages of which there are pictures."""


async def test_no_page_has_a_serious_accessibility_fault(operator: Operator) -> None:
    page = operator.page
    found: dict[str, list[str]] = {}

    async def look(name: str) -> None:
        for scheme, rules in RULES.items():
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if faults := await operator.faults(rules):
                found[f"{name} {scheme}"] = faults
            if ASKED_FOR and name in SHOWN[scheme]:
                await page.wait_for_timeout(5000 if name == "overview" else 300)
                await operator.picture(f"{name}-{scheme}")

    for name, path in PAGES.items():
        await operator.open(path)
        if name in ("overview", "views", "view"):
            await expect(page.locator("#live-text")).to_have_text("live")
        await look(name)
    await page.emulate_media(color_scheme="light")
    await operator.open("/views")
    await operator.press("Scale memory")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await operator.picture("dialog")
    await look("dialog")
    assert found == {}


async def test_the_overview_is_live(operator: Operator, market: Market) -> None:
    page = operator.page
    await operator.open("")
    await expect(page.locator("#live-text")).to_have_text("live")
    await expect(page.locator("#chart-rates canvas")).to_be_visible()
    end = page.locator(".tiles dd").last
    before = await end.inner_text()
    market.send("add-item", order_id="1001", sku="pepper")
    await expect(end).not_to_have_text(before)
    for state, said in (("hidden", "paused"), ("visible", "live")):
        await page.evaluate(
            """(state) => {
                const value = { value: state, configurable: true };
                Object.defineProperty(document, "visibilityState", value);
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            state,
        )
        await expect(page.locator("#live-text")).to_have_text(said)
    before = await end.inner_text()
    market.send("add-item", order_id="1001", sku="salt")
    await expect(end).not_to_have_text(before)


async def test_without_scripts_everything_can_be_done_by_pages(
    browser: Browser, signed_in: BrowserContext, market: Market
) -> None:
    state = await signed_in.storage_state()
    context = await browser.new_context(
        base_url=market.stack.url, java_script_enabled=False, storage_state=state
    )
    page = await context.new_page()
    await page.goto("/console/views")
    await page.get_by_role("link", name="Scale memory").click()
    await page.get_by_label("How many").fill("1")
    await page.get_by_role("button", name="Scale it").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Scaled")
    await page.get_by_role("link", name="Close").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Views")
    await context.close()
