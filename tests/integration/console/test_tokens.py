"""A stack whose callers need tokens, as its settings say: over HTTP, and on the command line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.integration.console.market_stack import TOKENS, Market
from tests.stack import rayfold


def test_tokens_are_switched_on_by_a_setting(market: Market) -> None:
    http, body = market.http, {"order_id": "9001", "customer": "ada"}
    assert http.post("/commands/open-order", json=body).status_code == 401
    answer = http.post("/commands/open-order", json=body, headers=_bearer("rita"))
    assert answer.status_code == 403
    market.order("9001")
    query = {"order_id": "9001"}
    assert http.get("/queries/get-order", params=query, headers=_bearer("rita")).is_success
    assert market.ask("/operators/events/order-9001/0")["metadata"]["principal"] == "shop"
    assert http.get("/operators/status", headers=_bearer("shop")).status_code == 403


def test_the_command_line_shows_the_token_of_an_operator(market: Market) -> None:
    data = market.stack.data
    assert json.loads(_status(data, RAYFOLD_TOKENS=json.dumps(TOKENS)))["parts"]
    assert "bearer token" in _status(data, code=2)
    assert "a writer" in _status(data, code=2, RAYFOLD_TOKEN=TOKENS["shop"]["token"])


def _bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]['token']}"}


def _status(data: Path, code: int = 0, **environment: str) -> str:
    ended = subprocess.run(
        [*rayfold(), "status", "--json", "--data", str(data)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout if code == 0 else ended.stderr
