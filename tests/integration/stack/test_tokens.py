"""A stack whose callers need tokens, as its settings say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from uuid import uuid4

import httpx

from tests.stack import Stack, rayfold

TOKENS = {
    "dashboard": {"token": "reads-only-0123456789", "role": "reader"},
    "shop": {"token": "writes-too-0123456789", "role": "writer"},
    "ops": {"token": "all-of-it-0123456789", "role": "operator"},
}


def test_tokens_are_switched_on_by_a_setting(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", RAYFOLD_TOKENS=json.dumps(TOKENS))
    stack.start()
    try:
        order = str(uuid4())
        body = {"order_id": order, "customer_id": "ada"}
        with httpx.Client(base_url=stack.url, timeout=30) as http:
            assert http.post("/orders", json=body).status_code == 401
            assert http.post("/orders", json=body, headers=_bearer("dashboard")).status_code == 403
            headers = {**_bearer("shop"), "Prefer": "wait=10"}
            assert http.post("/orders", json=body, headers=headers).status_code == 202
            assert http.get(f"/orders/{order}", headers=_bearer("dashboard")).is_success
            events = http.get(f"/orders/{order}/history", headers=_bearer("dashboard")).json()
            assert events[0]["metadata"]["principal"] == "shop"
            assert http.get("/operators/status", headers=_bearer("shop")).status_code == 403
        assert json.loads(_status(tmp_path / "data", RAYFOLD_TOKENS=json.dumps(TOKENS)))["parts"]
        assert "bearer token" in _status(tmp_path / "data", code=2)
        assert "a writer" in _status(
            tmp_path / "data", code=2, RAYFOLD_TOKEN=TOKENS["shop"]["token"]
        )
    finally:
        assert stack.stop() == 0


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
