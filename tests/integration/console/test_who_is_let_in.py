"""Who is let in, and what pages of other sites cannot do."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.integration.console.conftest import REBOUND
from tests.integration.console.market_stack import DEADLINE, TOKENS, Market


async def test_without_an_operators_token_nothing_is_shown(
    browser: Browser, market: Market
) -> None:
    context = await browser.new_context(base_url=market.stack.url)
    page = await context.new_page()
    await page.goto("/console/log?stream=order-1001")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Operators’ console")
    for token, said in (
        ("nobody", "No operator has this token"),
        ("the-writers-token", "shop is a writer"),
        ("the-readers-token", "rita is a reader"),
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


async def test_a_page_of_another_origin_can_do_nothing_and_see_nothing(
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


async def test_a_foreign_host_name_that_resolves_to_this_machine_shows_nothing(
    window: Page, market: Market
) -> None:
    rebound = f"http://{REBOUND}:{market.stack.port}"
    answer = await window.goto(f"{rebound}/console")
    assert answer is not None
    assert answer.status == 401
    for path in ("/operators/status", "/console/log", "/processes"):
        said = await window.evaluate("path => fetch(path).then((answer) => answer.status)", path)
        assert said == 401, path
