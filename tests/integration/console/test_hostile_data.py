"""What data cannot do to an operator who looks at it."""

from __future__ import annotations

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
