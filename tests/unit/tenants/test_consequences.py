"""The consequences of an event belong to its tenant: commands, schedules, publications."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from actors.envelope import Envelope, enclose
from actors.errors import InvalidCommand
from actors.processes.runner import ProcessRunner
from deploy.authoring.counterfactual.walk import Counterfactual
from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import Metadata, NewRecord, RawRecord
from projections.publications.outgoing import Derivation
from rayfold import DomainError, Registry
from rayfold.tenants import NoTenant
from tests.unit.tenants import around, ledger
from tests.unit.tenants.around import noted
from tests.unit.tenants.ledger import AccountOpened, Deposited, ListMoved, OpenAccount, Turnover
from tests.unit.tenants.one_process import REGISTRIES, Stack, running


async def _told(runner: ProcessRunner, log: MemoryLog, commands: int) -> list[RawRecord]:
    """Return what is on the log once so many commands were accepted."""
    async with asyncio.timeout(30):
        async for batch in log.subscribe(["process-"], None):
            commands -= sum(raw.event_type == "ProcessCommandAccepted" for raw in batch.records)
            if commands <= 0:
                break
    return [raw async for raw in log.read_all(["account-", "process-"])]


async def _open(stack: Stack, tenant: str, **headers: str) -> None:
    body = {"account_id": "a", "owner": "ada"}
    reply = await stack.ask(tenant, "POST", "/accounts", json=body, headers=headers)
    assert reply.status_code == 202


async def test_a_process_acts_in_the_tenant_of_its_event() -> None:
    async with running() as stack, stack.with_processes() as [runner]:
        await _open(stack, "acme")
        await _open(stack, "globex")
        await stack.log.append(  # somebody else's, of no tenant: nobody's process is told
            [
                StreamAppend(
                    "account-a",
                    ANY,
                    [
                        NewRecord(
                            "AccountOpened", b'{"account_id":"a","owner":"x"}', {}, str(uuid4())
                        )
                    ],
                )
            ]
        )
        records = await _told(runner, stack.log, 2)
        for tenant in ("acme", "globex"):
            own = [raw for raw in records if raw.stream == f"account-{tenant}:a"]
            assert [raw.event_type for raw in own] == ["AccountOpened", "Deposited"]
            assert {Metadata(raw.metadata)["tenant"] for raw in own} == {tenant}
            seen = (await stack.ask(tenant, "GET", "/accounts/a")).json()
            assert seen["balance"] == 1
        processes = {raw.stream for raw in records if raw.stream.startswith("process-")}
        assert processes == {"process-greeting-acme:a", "process-greeting-globex:a"}
        assert not runner.parked
        assert not runner.error
        _published(stack.registry, records)


def _published(registry: Registry, records: list[RawRecord]) -> None:
    derivation = Derivation(registry, registry.publications["welcomes"], "/here")
    told = [each for raw in records for each in derivation.outgoing(raw)]
    assert {each.key for each in told} == {"acme:ada", "globex:ada"}
    assert len({each.id for each in told}) == 2
    bodies = [json.loads(each.body) for each in told]
    assert {(each["subject"], each["tenant"]) for each in bodies} == {
        ("ada", "acme"),
        ("ada", "globex"),
    }


async def test_a_scheduled_command_belongs_to_its_tenant() -> None:
    async with running() as stack, stack.with_processes() as [runner]:
        soon = {"rayfold-not-before": "2026-01-01T00:00:00Z"}
        await _open(stack, "acme", **soon)
        await _told(runner, stack.log, 1)
        assert (await stack.ask("acme", "GET", "/accounts/a")).json()["balance"] == 1
        assert (await stack.ask("globex", "GET", "/accounts/a")).status_code == 404


async def test_a_call_without_its_tenant_is_refused() -> None:
    async with running() as stack:
        command = OpenAccount(account_id="a", owner="ada")
        with pytest.raises(InvalidCommand):
            await stack.writes.send(command)
        crossing = enclose(stack.registry, command, tenant="acme")._replace(tenant="globex")
        with pytest.raises(InvalidCommand):
            await stack.writes.bus.send(crossing)
        for query in (ledger.GetAccount(account_id="a"), ledger.ListAccounts()):
            with pytest.raises(NoTenant):
                await stack.queries.ask(query)
        with pytest.raises(NoTenant):
            await anext(stack.queries.live(ledger.GetAccount(account_id="a")))


def test_custom_sql_gets_the_tenant_and_must_use_it() -> None:
    event = Deposited(account_id="a", amount=1)
    assert Turnover.statements(event, "acme")[0].parameters == ("acme", "a", 1)
    assert Turnover.statements(event)[0].parameters == ("", "a", 1)
    assert ListMoved().statement_for("acme").parameters == ("acme",)
    with pytest.raises(ValueError, match="without its tenant"):
        Turnover.statements(event, "acme")[0]._replace(parameters=("a", 1)).check_tenant("acme")


def test_sql_that_does_not_separate_tenants_is_refused_if_there_are_tenants() -> None:
    from examples.shop import baskets, bestsellers

    modules = [baskets, bestsellers]
    Registry(modules)
    with pytest.raises(DomainError) as refused:
        Registry(modules, tenants=True)
    assert len(refused.value.mistakes) == 3
    assert all("all tenants" in each for each in refused.value.mistakes)


def test_views_of_a_registry_without_tenants_are_unchanged() -> None:
    with_tenants, without = REGISTRIES[True].views["owners"], REGISTRIES[False].views["owners"]
    assert without is ledger.Owners.__rayfold__
    assert with_tenants.fingerprint == f"{without.fingerprint} tenants"
    assert without.lists == ("accounts",)
    assert AccountOpened in with_tenants.folds


def test_an_envelope_without_a_tenant_is_encoded_as_before() -> None:
    command = OpenAccount(account_id="a", owner="ada")
    without = enclose(REGISTRIES[False], command, timeout=9.0)
    with_one = enclose(REGISTRIES[True], command, timeout=9.0, tenant="acme")
    for each, size in ((without, 11), (with_one, 12)):
        sent = each.to_wire(100.0)
        assert len(sent) == size
        assert Envelope.from_wire(sent, 100.0) == each
    assert with_one.fingerprint != without.fingerprint


async def test_recorded_commands_are_decided_again_in_their_tenant() -> None:
    async with running() as stack:
        for tenant, amount in (("acme", 5), ("globex", 0)):
            await _open(stack, tenant)
            path, body = "/accounts/a/deposits", {"amount": amount}
            assert (await stack.ask(tenant, "POST", path, json=body)).status_code == 202
        walk = Counterfactual(stack.registry, stack.log)
        assert [each async for each in walk.findings()] == []
        assert (walk.summary.same, walk.summary.not_kept) == (4, 0)


async def test_middleware_gets_the_tenant_and_cannot_leave_it() -> None:
    noted.clear()
    registry = Registry([ledger, around], tenants=True)
    async with running(registry=registry) as stack:
        await _open(stack, "acme")
        paths = ("/accounts/a", "/accounts/a/history", "/accounts/a?as_of=0", "/accounts/a/live")
        for path in paths:
            for tenant, status in (("acme", 200), ("globex", 404)):
                method = "HEAD" if path.endswith("live") else "GET"
                assert (await stack.ask(tenant, method, path)).status_code == status
    assert noted == [
        ("open-account", "acme"),
        *[
            (reading, tenant)
            for reading in ("now", "history", "as-of", "live")
            for tenant in ("acme", "globex")
        ],
    ]
