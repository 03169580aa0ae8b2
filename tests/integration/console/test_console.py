"""The console in a browser, over a whole stack: every page, every action, and what is refused.

Clicks and seconds of what operators do are printed. `RAYFOLD_SCREENSHOTS=1` makes the pictures of
docs/how-to/console/ again.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.conftest import ROOT
from tests.integration.console.conftest import DEADLINE, REBOUND, TOKENS, Market
from tests.integration.console.operator import Operator

PICTURES = ROOT / "docs/how-to/console"
ASKED_FOR = "RAYFOLD_SCREENSHOTS" in os.environ

PAGES = {
    "overview": "",
    "views": "/views",
    "view": "/views/show?view=orders",
    "parked": "/parked",
    "log": "/log",
    "event": "/log/event?stream=order-1001&revision=1",
    "aggregate": "/aggregates?stream=order-1001",
    "processes": "/processes",
    "process": "/processes/show?process=delivery&key=1002",
    "schedules": "/schedules",
    "publications": "/publications",
    "causality": "/causality?id=1@order-1002",
    "audit": "/audit",
    "access": "/access",
    "question": "/rebuild?view=orders",
}

expect.set_options(timeout=DEADLINE * 1000)


async def until(holds: Callable[[], Any]) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + DEADLINE
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def parked_keys(market: Market, view: str) -> set[str]:
    """Return what is parked in a view."""
    found = market.ask("/operators/parked")["parked"]
    return {each["key"] for each in found if each["view"] == view}


# What the issue asks to be shown, by clicks alone.


async def test_which_view_lags_and_why_is_found_from_the_first_page(
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
        if ASKED_FOR:
            await operator.page.screenshot(path=PICTURES / "lagging.png")
    finally:
        market.switch("slow", on=False)
        done.set()
        shopping.join()


async def test_a_parked_event_is_inspected_and_replayed(operator: Operator, market: Market) -> None:
    market.send("open-order", wait=0, order_id="2001", customer="ada")
    market.send("add-item", wait=0, order_id="2001", sku="unreadable")
    await until(lambda: "2001" in parked_keys(market, "prices"))
    if ASKED_FOR:
        await operator.open("/parked")
        await operator.page.screenshot(path=PICTURES / "parked.png")
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
    assert "2001" not in parked_keys(market, "prices")
    await operator.press("Close")
    await operator.sees("Nothing is parked")


async def test_a_view_is_rebuilt_and_watched(operator: Operator, market: Market) -> None:
    operator.begin()
    await operator.open("/views")
    card = operator.page.get_by_role("article", name="orders")
    await operator.click(card.get_by_role("link", name="Rebuild"))
    dialog = operator.page.get_by_role("dialog")
    await expect(dialog.get_by_role("heading")).to_have_text("Rebuild orders?")
    await expect(dialog).to_contain_text("The rows that serve now go on serving")
    await operator.confirm("Rebuild it")
    await expect(dialog.locator("[data-state=done]")).to_be_visible()
    await expect(dialog).to_contain_text("Rebuilt in memory and postgres")
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


async def test_what_cannot_be_scaled_so_is_told_in_the_dialog(operator: Operator) -> None:
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


async def test_an_order_is_followed_through_time(operator: Operator) -> None:
    operator.begin()
    await operator.open("/log?stream=order-1001")
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
    await until(lambda: market.ask(f"/operators/causality?id={command_id}")["commands"][1:])
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
    if ASKED_FOR:
        await operator.page.screenshot(path=PICTURES / "causality.png", full_page=True)


# The other actions of the command line.


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
    await until(lambda: "2002" in parked_keys(market, "prices"))
    await operator.open("/parked")
    await operator.press("Inspect 2002 of prices")
    await operator.press("Discard")
    dialog = operator.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("It cannot be taken back")
    await dialog.get_by_role("link", name="Leave it").click()
    await expect(dialog).to_be_hidden()
    assert "2002" in parked_keys(market, "prices")
    await operator.press("Discard")
    await operator.confirm("Discard it for good")
    await operator.sees("1 discarded")
    assert "2002" not in parked_keys(market, "prices")


async def test_a_parked_process_is_read_retried_and_aborted(
    operator: Operator, market: Market
) -> None:
    for key in ("4001", "4002"):
        market.order(key, "tea", customer=f"stuck {key}", placed=True)
    await until(lambda: market.ask("/processes?parked=true")["total"] == 2)
    await operator.open("/processes?parked=true")
    if ASKED_FOR:
        await operator.page.screenshot(path=PICTURES / "processes.png")
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
    await until(lambda: market.ask("/operators/schedules")["commands"])
    await operator.open("/schedules")
    await operator.sees(command_id)
    if ASKED_FOR:
        await operator.page.screenshot(path=PICTURES / "schedules.png")
    await operator.press("Cancel", exact=True)
    await operator.confirm("Cancel it")
    await operator.sees("Cancelled")
    await until(lambda: not market.ask("/operators/schedules")["commands"])


async def test_what_nobody_takes_is_sent_again(operator: Operator, market: Market) -> None:
    await until(lambda: market.ask("/publications")["publications"][0]["parked"])
    await operator.open("/publications")
    if ASKED_FOR:
        await operator.page.screenshot(path=PICTURES / "publications.png")
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


async def test_who_did_what_is_told(operator: Operator) -> None:
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


# How it is to use.


async def test_every_page_goes_on_a_phone_and_by_keyboard(operator: Operator) -> None:
    page = operator.page
    await page.set_viewport_size({"width": 390, "height": 844})
    for name, path in PAGES.items():
        await operator.open(path)
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, (name, wide)
        if ASKED_FOR and name == "overview":
            await page.wait_for_timeout(4000)
            await page.screenshot(path=PICTURES / "phone.png")
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


RULES: dict[str, dict[str, Any]] = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},
}
"""In the dark nothing but colours is otherwise."""

SHOWN = {"light": ("overview", "views", "log", "aggregate", "audit"), "dark": ("overview",)}
"""Pages of which there are pictures."""


@pytest.mark.parametrize("scheme", RULES)
async def test_no_page_has_a_serious_fault(operator: Operator, scheme: Any) -> None:
    page = operator.page
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found = {}
    for name, path in PAGES.items():
        await operator.open(path)
        if name in ("overview", "views"):
            await expect(page.locator("#live-text")).to_have_text("live")
        if faults := await operator.faults(RULES[scheme]):
            found[f"{name} {scheme}"] = faults
        if ASKED_FOR and name in SHOWN[scheme]:
            await page.wait_for_timeout(5000 if name == "overview" else 300)
            await page.screenshot(path=PICTURES / f"{name}-{scheme}.png")
    await operator.open("/views")
    await operator.press("Scale memory")
    await expect(page.get_by_role("dialog")).to_be_visible()
    if faults := await operator.faults(RULES[scheme]):
        found[f"dialog {scheme}"] = faults
    if ASKED_FOR and scheme == "light":
        await page.screenshot(path=PICTURES / "dialog.png")
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


async def test_without_scripts_everything_is_done_by_pages(
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


# Who is let in, and what data and other sites cannot do.


async def test_who_has_no_operators_token_sees_nothing(browser: Browser, market: Market) -> None:
    context = await browser.new_context(base_url=market.stack.url)
    page = await context.new_page()
    await page.goto("/console/log?stream=order-1001")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Operators’ console")
    for token, said in (
        ("nobody", "No operator has this token"),
        ("the-writers-token", "shop is a writer"),
    ):
        await page.get_by_label("An operator’s token").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text(said)
    await page.get_by_label("An operator’s token").fill(TOKENS["olga"]["token"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(re.compile(r"/console/log\?stream=order-1001$"))
    [cookie] = await context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Operators’ console")
    assert await context.cookies() == []
    await context.close()


EVIL = """<script>window.evil = 1</script><img src=x onerror="window.evil = 2">"'{{7*7}}"""


async def test_a_script_in_what_somebody_has_stored_never_runs(
    operator: Operator, market: Market
) -> None:
    market.order(EVIL, customer=f"stuck {EVIL}")
    market.send("add-item", order_id=EVIL, sku=EVIL, note=EVIL)
    market.send("place-order", order_id=EVIL)
    market.send("open-order", wait=0, order_id=f"{EVIL}2", customer="ada")
    market.send("add-item", wait=0, order_id=f"{EVIL}2", sku="unreadable", note=EVIL)
    await until(lambda: f"{EVIL}2" in parked_keys(market, "prices"))
    await until(lambda: market.ask("/processes?parked=true")["total"])
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


HOSTILE = """<!doctype html><title>hostile</title>
<form id="form" method="post" action="{url}/console/scale" target="frame">
  <input name="what" value="target=memory"><input name="n" value="7">
  <input name="form_word" value="0">
</form>
<iframe name="frame" id="frame"></iframe>
<iframe src="{url}/console" id="framed"></iframe>
<script>
  window.said = [];
  const headers = {{"content-type": "application/x-www-form-urlencoded"}};
  document.getElementById("form").submit();
  const post = {{method: "POST", mode: "no-cors", credentials: "include"}};
  const body = "what=target%3Dmemory&n=7";
  const tries = [
    fetch("{url}/console", {{credentials: "include"}}),
    fetch("{url}/operators/status", {{credentials: "include"}}),
    fetch("{url}/console/scale", {{...post, headers, body}}),
    fetch("{url}/operators/scale", {{...post, body: '{{"target": "memory", "n": 7}}'}}),
  ];
  Promise.allSettled(tries).then((all) => {{
    window.said = all.map(({{status, value}}) => status === "fulfilled" ? value.type : "refused");
  }});
</script>"""


@pytest.fixture
def hostile(market: Market) -> Iterator[str]:
    """Return the address of a page of another origin that acts for whoever looks at it."""
    body = HOSTILE.format(url=market.stack.url).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def window(signed_in: BrowserContext) -> AsyncIterator[Page]:
    """Return a page of the browser in which an operator has signed in."""
    page = await signed_in.new_page()
    yield page
    await page.close()


async def test_a_page_of_another_origin_does_and_sees_nothing(
    window: Page, market: Market, hostile: str
) -> None:
    before = market.ask("/operators/status")["scaling"]
    await window.goto(hostile)
    await window.wait_for_function("window.said.length === 4", timeout=DEADLINE * 1000)
    assert await window.evaluate("window.said") == ["refused", "refused", "refused", "opaque"]
    framed = window.frame(url=re.compile("/console$"))
    assert framed is None or "Rayfold" not in await framed.content()
    assert market.ask("/operators/status")["scaling"] == before
    acts = market.ask("/operators/audit")["audit"]
    assert not [each for each in acts if each.get("arguments") == {"target": "memory", "n": 7}]


async def test_a_name_that_was_made_to_lead_here_shows_nothing(
    window: Page, market: Market
) -> None:
    rebound = f"http://{REBOUND}:{market.stack.port}"
    answer = await window.goto(f"{rebound}/console")
    assert answer is not None
    assert answer.status == 401
    for path in ("/operators/status", "/console/log", "/processes"):
        said = await window.evaluate("path => fetch(path).then((answer) => answer.status)", path)
        assert said == 401, path
