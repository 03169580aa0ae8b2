"""What operators do by the console alone; clicks and seconds of each are printed."""

from __future__ import annotations

import re
import threading

from playwright.async_api import expect

from tests.integration.console.market_stack import Market
from tests.integration.console.operator import Operator


async def test_from_the_first_page_an_operator_finds_which_view_lags_and_why(
    operator: Operator, market: Market
) -> None:
    done = threading.Event()

    def shop() -> None:
        while not done.wait(0.1):
            market.send("add-item", wait=0, order_id="1001", sku="biscuit")

    market.switch("slow", on=True)
    shopping = threading.Thread(target=shop)
    shopping.start()
    why = operator.page.locator(".troubles")
    try:
        operator.begin()
        await operator.open("")
        await expect(why).to_contain_text("behind the log")
        await operator.press("Look at popular-items")
        await expect(operator.page.get_by_role("heading", level=1)).to_have_text("popular-items")
        await expect(why).to_contain_text("behind the log")
        operator.took("Find which view lags, and why")
        await operator.picture("lagging")
    finally:
        market.switch("slow", on=False)
        done.set()
        shopping.join()
    await operator.sees("It is up to date")  # the page is live


async def test_a_parked_event_is_inspected_and_replayed(operator: Operator, market: Market) -> None:
    market.send("open-order", wait=0, order_id="2001", customer="ada")
    market.send("add-item", wait=0, order_id="2001", sku="unreadable")
    await market.until(lambda: "2001" in market.parked("prices"))
    await operator.open("/parked")
    await operator.picture("parked")
    operator.begin()
    await operator.open("")
    await operator.press("Inspect the events")
    await operator.press("Inspect 2001 of prices")
    await operator.sees("no price is known of 'unreadable'")
    await operator.sees('"sku": "unreadable"')
    await operator.press("Replay")
    await operator.confirm("Replay")
    await operator.sees("1 of 1 still parked")
    await operator.press("Close")
    market.switch("mended", on=True)  # as if it were deployed
    try:
        await operator.press("Inspect 2001 of prices")
        await operator.press("Replay")
        await operator.confirm("Replay")
        await operator.sees("1 folded")
        operator.took("Inspect and replay a parked event, in vain and again once it is mended")
    finally:
        market.switch("mended", on=False)
    assert "2001" not in market.parked("prices")
    await operator.press("Close")
    await operator.sees("Nothing is parked")


async def test_a_view_is_rebuilt_and_watched(operator: Operator, market: Market) -> None:
    operator.begin()
    await operator.open("/views")
    card = operator.page.get_by_role("article", name="orders")
    await operator.click(card.get_by_role("link", name="Rebuild"))
    dialog = operator.page.get_by_role("dialog")
    await expect(dialog.get_by_role("heading")).to_have_text("Rebuild orders?")
    await expect(dialog).to_contain_text("The present rows are served meanwhile")
    await operator.confirm("Rebuild it")
    await expect(dialog.locator("[data-state=done]")).to_be_visible()
    await expect(dialog).to_contain_text("Rebuilt in postgres and memory")
    operator.took("Rebuild a view, and watch it")
    [rebuild] = market.ask("/operators/rebuilds")["rebuilds"]
    assert (rebuild["view"], rebuild["state"]) == ("orders", "done")


async def test_a_store_is_scaled(operator: Operator, market: Market) -> None:
    for count in ("2", "1"):
        operator.begin()
        await operator.open("/views")
        card = operator.page.get_by_role("article", name="orders")
        await operator.click(card.get_by_role("link", name="Scale orders in memory"))
        dialog = operator.page.get_by_role("dialog")
        await dialog.get_by_label("How many").fill(count)
        await operator.confirm("Scale it")
        await operator.sees(f"memory:orders: {count}")
        operator.took(f"Scale a view to {count}")
    moves = market.ask("/operators/status")["scaling"]
    assert [(each["target"], each["to"]) for each in moves[:2]] == [
        ("memory:orders", 1),
        ("memory:orders", 2),
    ]


async def test_an_order_is_followed_through_time(operator: Operator, market: Market) -> None:
    market.order("3002", "tea", "cup", "honey")
    operator.begin()
    await operator.open("/log?stream=order-3002")
    await operator.click(operator.page.get_by_role("link", name="ItemAdded").last)
    await operator.press("The aggregate then")
    state = operator.page.get_by_role("region", name="State after the event")
    await expect(state).to_contain_text("some tea")
    slider = operator.page.get_by_role("slider")
    await slider.focus()
    await operator.page.keyboard.press("ArrowRight")
    await expect(state).to_contain_text("some cup")
    await expect(state.locator("tr.changed")).to_have_count(2)
    await operator.page.keyboard.press("Home")
    await expect(operator.page.get_by_role("link", name="OrderOpened")).to_be_visible()
    await expect(slider).to_be_focused()
    operator.took("Follow one order through time")
    await expect(operator.page).to_have_url(re.compile("revision=0"))


async def test_a_command_is_followed_everywhere(operator: Operator, market: Market) -> None:
    command_id = market.order("3001", "tea", customer="mary", placed=True)
    await market.until(lambda: market.ask(f"/operators/causality?id={command_id}")["commands"][1:])
    operator.begin()
    await operator.open("/log")
    await operator.page.get_by_label("Stream").fill("order-3001")
    await operator.press("Show")
    await operator.press("OrderPlaced")
    await operator.press("Follow it everywhere")
    tree = operator.page.locator(".tree")
    for text in ("OrderPlaced", "orders in memory", "orders in postgres", "delivery 3001"):
        await expect(tree).to_contain_text(text)
    await expect(tree).to_contain_text("send-parcel")
    await expect(tree).to_contain_text("ParcelSent")
    await expect(tree).to_contain_text("order-news")
    operator.took("Follow one command everywhere")
    await operator.picture("causality", whole=True)
