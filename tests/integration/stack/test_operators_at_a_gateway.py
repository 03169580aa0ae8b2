"""What operators do at a gateway of its own, over HTTP and in the console: a controller does it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.integration.stack.conftest import RAY
from tests.integration.stack.orders import add, create
from tests.integration.stack.roles import Role
from tests.integration.stack.test_command_line import run
from tests.ports import free_port

PATIENCE = 120.0

PAGES = (
    *("", "/views", "/parked", "/log", "/aggregates", "/processes", "/schedules"),
    *("/publications", "/causality", "/audit", "/access"),
)


def test_every_action_of_operators_works_at_a_gateway(
    ray: str, databases: list[str], store: str, tmp_path: Path
) -> None:
    where = ("--ray-address", ray, "--eventstore", store, "--postgres", databases[0])
    roles = [
        Role(tmp_path, "controller", "controller", *where, **RAY).start(),
        Role(tmp_path, "gateway", "gateway", "--port", str(free_port()), *where, **RAY).start(),
    ]
    try:
        for each in roles:
            each.ready()
        with httpx.Client(base_url=roles[1].url, timeout=60) as http:
            command = add(http, create(http)).json()["command_id"]

            def told(method: str, path: str, status: int = 200, **body: Any) -> Any:
                answer = http.request(method, path, json=body or None)
                assert answer.status_code == status, answer.text
                return answer.json() if answer.content else None

            for target in ("write", "memory", "postgres"):
                told("POST", "/operators/scale", target=target, n=2)
            status = told("GET", "/operators/status")
            assert {each["target"] for each in status["scaling"]} == {"memory", "postgres"}
            kinds = Counter(each["kind"] for each in status["parts"])
            assert kinds["memory"] == kinds["postgres"] == 2
            assert {"write#0", "write#1"} <= {each["part"] for each in status["parts"]}
            told("POST", "/operators/scale", 422, target="nothing", n=2)
            told("POST", "/operators/rebuild", 202, view="order-details")
            told("POST", "/operators/rebuild", 422, view="nothing")
            deadline = time.monotonic() + PATIENCE
            while told("GET", "/operators/rebuilds")["rebuilds"][0]["state"] != "done":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert told("GET", "/operators/parked") == {"parked": [], "next_cursor": None}
            told("POST", "/operators/replay", 422, view="order-details", key="nothing")
            told("POST", "/operators/discard", 422, view="order-details", key="nothing")
            assert told("GET", "/operators/verify") == {"differences": []}
            assert told("GET", "/operators/explain/order-details")["sentence"]
            assert told("GET", f"/operators/causality?id={command}")
            acts = [each.get("arguments") for each in told("GET", "/operators/audit")["audit"]]
            assert {"target": "memory", "n": 2} in acts
            assert {"view": "order-details"} in acts
            for page in PAGES:
                answer = http.get(f"/console{page}", headers={"Accept": "text/html"})
                assert answer.status_code == 200, (page, answer.text)
    finally:
        run("down", "--postgres", databases[0], "--ray-address", ray, cwd=Path.cwd(), **RAY)
        for each in reversed(roles):
            if each.process.poll() is None:
                each.stop()
