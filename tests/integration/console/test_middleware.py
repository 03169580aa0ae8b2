"""The market's middleware on the real parts: in a gateway, and where the stack itself sends."""

from __future__ import annotations

from typing import Any

from tests.integration.console.market.around import CONTRABAND, NOBODY
from tests.integration.console.market_stack import TOKENS, Market


async def test_whatever_sends_a_command_goes_through_it(market: Market) -> None:
    shop = {"authorization": f"Bearer {TOKENS['shop']['token']}"}
    past = {"Rayfold-Not-Before": "2026-01-01T00:00:00Z"}
    item = {"order_id": "1001", "sku": CONTRABAND}

    def put(headers: dict[str, str]) -> Any:
        return market.http.post("/commands/add-item", json=item, headers=shop | headers)

    now, later = put({}), put(past)
    assert (now.status_code, now.json()["code"]) == (403, CONTRABAND)
    assert (later.status_code, later.json()["status"]) == (202, "scheduled")
    path = f"/commands/{later.json()['command_id']}"
    await market.until(lambda: market.ask(path)["status"] == "rejected")
    assert market.ask(path)["detail"] == "shop may not deal in that"

    market.order("7001", "tea", customer=NOBODY, placed=True)

    def refused() -> bool:
        olga = {"authorization": f"Bearer {TOKENS['olga']['token']}"}
        answer = market.http.get("/processes/delivery/7001", headers=olga)
        steps = answer.json().get("steps", [])  # none while it has not begun
        return any(step["data"]["told"].get("rule") == "no-address" for step in steps)

    try:
        await market.until(refused)
    finally:  # it is parked, as its process does not handle that
        market.act("/operators/processes/abort", process="delivery", key="7001", as_it_is=True)
