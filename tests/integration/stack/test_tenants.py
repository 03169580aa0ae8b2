"""Two tenants of one real stack, with one id: in every store, process and command of operators."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack import Stack, rayfold, run_rayfold

TOKENS = {
    "acme": {"token": "token-of-acme-0123456789", "role": "writer", "tenant": "acme"},
    "globex": {"token": "token-of-globex-0123456789", "role": "writer", "tenant": "globex"},
    "ops": {"token": "token-of-ops-0123456789", "role": "operator"},
}

DOMAIN = "tests.unit.tenants.ledger"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """`rayfold up` that serves tenants; its command line has the same settings."""
    monkeypatch.setenv("RAYFOLD_DOMAIN", DOMAIN)
    monkeypatch.setenv("RAYFOLD_TENANTS", "true")
    monkeypatch.setenv("RAYFOLD_TOKENS", json.dumps(TOKENS))
    running = Stack(tmp_path / "data")
    running.start()
    yield running
    assert running.stop() == 0
    # Nothing that was written for tenants is ever served as if there were none.
    monkeypatch.delenv("RAYFOLD_TENANTS")
    monkeypatch.delenv("RAYFOLD_TOKENS")
    refused = subprocess.run(
        [*rayfold(), "up", "--data", str(running.data), "--port", str(running.port)],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert refused.returncode == 2
    assert "set tenants = true" in refused.stderr


class Tenant(httpx.Client):
    """Asks for what shows all that was written before."""

    token = "0"

    def told(self, method: str, path: str, **how: Any) -> Any:
        headers = {"Consistency-Token": self.token, "Prefer": "wait=20", **how.pop("headers", {})}
        reply = self.request(method, path, headers=headers, **how)
        assert reply.is_success or reply.status_code == 404, reply.text
        self.token = max(self.token, reply.headers.get("consistency-token", "0"), key=int)
        return reply.json() if reply.is_success else None


def test_two_tenants_with_one_id_have_two_of_everything(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, globex = (
        Tenant(
            base_url=stack.url,
            timeout=60,
            headers={"Authorization": f"Bearer {TOKENS[name]['token']}"},
        )
        for name in ("acme", "globex")
    )
    with acme, globex:
        key = {"Idempotency-Key": "the same"}
        body = {"account_id": "a", "owner": "ada"}
        mine = acme.told("POST", "/accounts", json=body, headers=key)
        assert globex.told("GET", "/accounts/a") is None
        globex.told("POST", "/accounts", json=body, headers=key)
        _welcomed(acme, globex)  # by the process of each
        acme.told("POST", "/accounts/a/deposits", json={"amount": 5})
        acme.told("POST", "/accounts", json={"account_id": "b", "owner": "ada"})
        acme.told("POST", "/accounts/a/transfers", json={"payee": "b", "amount": 2})
        missing = globex.post("/accounts/a/transfers", json={"payee": "b", "amount": 1})
        assert missing.status_code == 404
        acme.told("POST", "/owners/ada/name", json={"name": "Ada"})
        globex.told("POST", "/owners/ada/name", json={"name": "Ada"})
        globex.token = acme.token = max(acme.token, globex.token, key=int)
        for store in ("memory", "postgres"):
            there = {"Rayfold-Store": store}
            assert acme.told("GET", "/accounts/a", headers=there)["balance"] == 4
            assert globex.told("GET", "/accounts/a", headers=there)["balance"] == 1
            for client, accounts in ((acme, ["a", "b"]), (globex, ["a"])):
                for path in ("/accounts", "/accounts?owner=ada"):
                    page = client.told("GET", path, headers=there)
                    assert [row["account_id"] for row in page["items"]] == accounts
                owner = client.told("GET", "/owners/ada", headers=there)
                assert (owner["accounts"], owner["names"]) == (len(accounts), ["Ada"])
        assert globex.told("GET", "/owners/ada/wealth")["total"] == 1
        assert [row["account_id"] for row in globex.told("GET", "/moved")["items"]] == ["a"]
        assert globex.told("GET", f"/commands/{mine['command_id']}") is None
        assert _first_state(globex) == 1
        _forget(stack, acme, globex)
        _cancel(stack, acme)
        _operate(stack)
        with monkeypatch.context() as without:
            without.delenv("RAYFOLD_TENANTS")
            without.delenv("RAYFOLD_TOKENS")
            for command in ("counterfactual", "migrate"):
                assert "set tenants = true" in run_rayfold(stack, command, code=2)
        assert globex.told("GET", "/accounts/a")["balance"] == 1


def _welcomed(*tenants: Tenant) -> None:
    for each in tenants:
        with each.stream("GET", "/accounts/a/live") as live:
            for line in live.iter_lines():
                if line.startswith("data: ") and json.loads(line[6:])["balance"] == 1:
                    break


def _first_state(tenant: Tenant) -> int:
    with tenant.stream("GET", "/accounts/a/live") as live:
        data = next(line for line in live.iter_lines() if line.startswith("data: "))
        return int(json.loads(data[6:])["balance"])


def _forget(stack: Stack, acme: Tenant, globex: Tenant) -> None:
    """Two persons of one id: who leaves one tenant stays in the other."""
    for each in (acme, globex):
        each.told("POST", "/members", json={"member": "ada", "email": "ada@example.org"})
    run_rayfold(stack, "forget", "ada", "--yes", code=2)
    assert "acme:ada: forgotten" in run_rayfold(stack, "forget", "acme:ada", "--yes")
    for store in ("memory", "postgres"):
        there = {"Rayfold-Store": store}
        assert acme.told("GET", "/members/ada", headers=there)["email"] == "[forgotten]"
        assert globex.told("GET", "/members/ada", headers=there)["email"] == "ada@example.org"
    for each, email in ((acme, "[forgotten]"), (globex, "ada@example.org")):
        [joined] = each.told("GET", "/members/ada/history")
        assert joined["data"]["email"] == email


def _cancel(stack: Stack, acme: Tenant) -> None:
    """An operator says whose a command is: a key stands for another one in each tenant."""
    later = {"Rayfold-Not-Before": "2999-01-01T00:00:00Z", "Idempotency-Key": "a day"}
    told = acme.told("POST", "/accounts/a/deposits", json={"amount": 5}, headers=later)
    assert told["command_id"] in run_rayfold(stack, "schedules", "list")
    assert "--tenant" in run_rayfold(stack, "schedules", "cancel", "a day", code=2)
    run_rayfold(stack, "schedules", "cancel", "a day", "--tenant", "globex", code=2)
    for known_as in ("a day", told["command_id"]):
        said = run_rayfold(stack, "schedules", "cancel", known_as, "--tenant", "acme")
        assert said == f"deposit account-acme:a {told['command_id']}: cancelled\n"


def _operate(stack: Stack) -> None:
    """What operators do is of all tenants, and names streams and rows with them."""
    assert json.loads(run_rayfold(stack, "verify", "--json")) == {"differences": []}
    run_rayfold(stack, "rebuild", "accounts")
    summary = run_rayfold(stack, "counterfactual")
    assert "0 different" in summary
    assert "account-globex:a" in run_rayfold(stack, "events")
    run_rayfold(stack, "delete", "account-acme:a", "--yes")
    assert json.loads(run_rayfold(stack, "verify", "--json")) == {"differences": []}
