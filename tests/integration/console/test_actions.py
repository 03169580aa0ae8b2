"""The other actions of the command line, by clicks."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.integration.console.market_stack import TOKENS, Market
from tests.integration.console.operator import Operator


async def test_a_refused_scaling_is_explained_in_the_dialog(operator: Operator) -> None:
    await operator.open("/views")
    await operator.press("Scale write hosts")
    dialog = operator.page.get_by_role("dialog")
    field = dialog.get_by_label("How many")
    await field.evaluate("each => each.removeAttribute('max')")
    await field.fill("5000")
    await operator.confirm("Scale it")
    await expect(dialog.get_by_role("alert")).to_contain_text("write hosts go from 1 to")
    await operator.confirm("Close")
    await expect(dialog).to_be_hidden()


async def test_every_view_is_verified(operator: Operator, market: Market) -> None:
    market.switch("mended", on=True)  # by the code that has folded what is in the rows
    try:
        await operator.open("/views")
        await operator.press("Verify all")
        await operator.confirm("Verify")
        await operator.sees("No differences")
    finally:
        market.switch("mended", on=False)


async def test_a_parked_event_is_discarded_for_good(operator: Operator, market: Market) -> None:
    market.send("open-order", wait=0, order_id="2002", customer="ada")
    market.send("add-item", wait=0, order_id="2002", sku="unreadable")
    await market.until(lambda: "2002" in market.parked("prices"))
    await operator.open("/parked")
    await operator.press("Inspect 2002 of prices")
    await operator.press("Discard")
    dialog = operator.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("It cannot be undone")
    await dialog.get_by_role("link", name="Leave it").click()
    await expect(dialog).to_be_hidden()
    assert "2002" in market.parked("prices")
    await operator.press("Discard")
    await operator.confirm("Discard it for good")
    await operator.sees("1 discarded")
    assert "2002" not in market.parked("prices")


async def test_a_parked_process_is_read_retried_and_aborted(
    operator: Operator, market: Market
) -> None:
    for key in ("4001", "4002"):
        market.order(key, "tea", customer=f"stuck {key}", placed=True)
    await market.until(lambda: market.ask("/processes?parked=true")["total"] == 2)
    await operator.open("/processes?parked=true")
    await operator.picture("processes")
    await operator.press("4001")
    await operator.sees("no address is known of 'stuck 4001'")
    await operator.press("Retry")
    await operator.confirm("Retry")
    await operator.sees("Still parked")
    await operator.press("Close")
    market.switch("mended", on=True)
    try:
        await operator.press("Retry")
        await operator.confirm("Retry")
        await operator.sees("It goes on")
    finally:
        market.switch("mended", on=False)
    await operator.open("/processes/show?process=delivery&key=4002")
    await operator.press("Abort")
    await operator.page.get_by_label("As it is, without its compensation").check()
    await operator.confirm("Abort it")
    await operator.sees("delivery 4002: aborted")
    assert market.ask("/processes/delivery/4002")["status"] == "ended"
    assert market.ask("/processes?parked=true")["total"] == 0


async def test_a_scheduled_command_is_cancelled(operator: Operator, market: Market) -> None:
    headers = {
        "authorization": f"Bearer {TOKENS['shop']['token']}",
        "rayfold-not-before": "2999-01-01T00:00:00Z",
    }
    fields = {"order_id": "1001", "sku": "later"}
    sent = market.http.post("/commands/add-item", json=fields, headers=headers)
    assert sent.status_code == 202
    command_id = sent.json()["command_id"]
    await market.until(lambda: market.ask("/operators/schedules")["commands"])
    await operator.open("/schedules")
    await operator.sees(command_id)
    await operator.picture("schedules")
    await operator.press("Cancel", exact=True)
    await operator.confirm("Cancel it")
    await operator.sees("Cancelled")
    await market.until(lambda: not market.ask("/operators/schedules")["commands"])


async def test_what_no_receiver_accepted_is_sent_again(operator: Operator, market: Market) -> None:
    await market.until(lambda: market.ask("/publications")["publications"][0]["parked"])
    await operator.open("/publications")
    await operator.picture("publications")
    await operator.press("Replay all that is parked")
    await operator.confirm("Replay")
    await operator.sees("Still parked")
    await operator.press("Close")
    await operator.press("Publish a range again")
    await operator.page.get_by_label("Up to position").fill("1")
    await operator.confirm("Publish again")
    await operator.sees("0 published again")


async def test_the_log_is_searched_and_paged(operator: Operator, market: Market) -> None:
    page = operator.page
    for _ in range(51):  # more than a page, whatever other tests have written
        market.send("add-item", wait=0, order_id="1001", sku="rice")
    await operator.open("/log")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    first = await rows.first.inner_text()
    await operator.press("Older")
    await expect(page).to_have_url(re.compile("before="))
    assert await rows.first.inner_text() != first
    await operator.press("The newest")
    await page.get_by_label("Type").fill("OrderPlaced")
    await operator.press("Show")
    await expect(rows.first).to_contain_text("OrderPlaced")
    kinds = await rows.locator("th").all_inner_texts()
    assert set(kinds) == {"OrderPlaced"}
    receipt = market.send("add-item", order_id="1001", sku="salt")
    await operator.open(f"/log?about={receipt['command_id']}")
    await expect(rows).to_have_count(1)
    await operator.open("/log?stream=order-nobody")
    await operator.sees("No such events")


async def test_a_stream_is_deleted(operator: Operator, market: Market) -> None:
    market.order("5001", "tea")
    await operator.open("/aggregates?stream=order-5001")
    await operator.press("Delete")
    await operator.confirm("Delete it for good")
    await operator.sees("order-5001: deleted")
    await operator.open("/aggregates?stream=order-5001")
    await operator.sees("no aggregate has the stream")


async def test_the_audit_page_shows_who_did_what(operator: Operator) -> None:
    for count in ("1", "64"):
        await operator.open("/scale?target=reactor:none")
        await operator.page.get_by_label("How many").fill(count)
        await operator.press("Scale it")
        await expect(operator.page.get_by_role("alert")).to_be_visible()
    await operator.open("/audit")
    row = operator.page.locator("tbody tr").first
    for text in ("olga", "scale", "target reactor:none", "n 64", "422"):
        await expect(row).to_contain_text(text)
    await expect(operator.page.locator("main")).not_to_contain_text("form_word")
