"""Hostile data does no harm to an operator who looks at it."""

from __future__ import annotations

from urllib.parse import quote

from playwright.async_api import expect

from tests.integration.console.market_stack import Market
from tests.integration.console.operator import Operator

EVIL = """<script>window.evil = 1</script><img src=x onerror="window.evil = 2">"'{{7*7}}"""


async def test_a_script_in_what_somebody_has_stored_never_runs(
    operator: Operator, market: Market
) -> None:
    market.order(EVIL, customer=f"stuck {EVIL}")
    market.send("add-item", order_id=EVIL, sku=EVIL, note=EVIL)
    market.send("place-order", order_id=EVIL)
    market.send("open-order", wait=0, order_id=f"{EVIL}2", customer="ada")
    market.send("add-item", wait=0, order_id=f"{EVIL}2", sku="unreadable", note=EVIL)
    await market.until(lambda: f"{EVIL}2" in market.parked("prices"))
    await market.until(lambda: market.ask("/processes?parked=true")["total"])
    page, stream = operator.page, f"order-{EVIL}"
    await operator.open("/log")
    await page.get_by_label("Stream").fill(stream)
    await operator.press("Show")
    await expect(page.locator("tbody tr")).to_have_count(3)
    for link in ("ItemAdded", "The aggregate then", "Follow it everywhere"):
        await operator.press(link)
        await expect(page.locator("main")).to_contain_text("<script>")
        assert await page.evaluate("window.evil") is None
    for path in ("", "/parked", "/processes", "/publications", "/audit", "/schedules"):
        await operator.open(path)
        assert await page.evaluate("window.evil") is None
    await operator.open("/parked")
    await operator.press("Inspect")
    await operator.press("Discard")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("<script>")
    await operator.confirm("Discard it for good")
    await operator.sees("1 discarded")
    await operator.open("/processes?parked=true")
    await page.locator("tbody th a").first.click()
    await expect(page.locator("main")).to_contain_text("<script>")
    await operator.press("Abort")
    await operator.confirm("Abort it")
    await operator.sees("Aborted")
    assert await page.evaluate("window.evil") is None
    market.send("add-item", order_id="1001", sku=EVIL, note=EVIL)
    assert market.ask("/operators/parked")["parked"] == []


LONG = "x" * 900
"""As long as a key of a view may nearly be, and no place to break a line at."""


async def test_ids_and_errors_of_any_length_widen_no_page(
    operator: Operator, market: Market
) -> None:
    market.order(LONG, LONG, customer=f"stuck {LONG}", placed=True)
    market.send("open-order", wait=0, order_id=f"{LONG}2", customer="ada")
    market.send("add-item", wait=0, order_id=f"{LONG}2", sku="unreadable", note=LONG * 5)
    await market.until(lambda: f"{LONG}2" in market.parked("prices"))
    await market.until(lambda: market.ask("/processes?parked=true")["total"])
    page, stream = operator.page, f"order-{LONG}"
    held = f"store=postgres&view=prices&key={LONG}2&stream={stream}2&revision=1"
    paths = (
        *("", "/parked", f"/parked/event?{held}", "/processes?parked=true", "/publications"),
        *(f"/processes/show?process=delivery&key={LONG}", f"/log?stream={stream}"),
        *(f"/log/event?stream={stream}&revision=1", f"/aggregates?stream={stream}"),
        *(f"/causality?id={quote(f'2@{stream}')}", f"/discard?view=prices&key={LONG}2"),
    )
    try:
        for width in (390, 1280):
            await page.set_viewport_size({"width": width, "height": 844})
            for path in paths:
                await operator.open(path)
                await expect(page.get_by_role("heading", level=1)).to_be_visible()
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (path[:40], width, wide)
    finally:
        aborted = {"process": "delivery", "key": LONG, "as_it_is": True}
        market.act("/operators/processes/abort", **aborted)
        market.act("/operators/discard", view="prices", key=f"{LONG}2")
