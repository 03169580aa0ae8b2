"""Recorded commands are decided again by changed code: which differences are real."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from actors.envelope import Envelope, enclose
from actors.local import LocalRuntime
from actors.processes.records import StepRecord, _Send, new_record
from actors.processes.records import Told as ProcessTold
from deploy.authoring.counterfactual import walk
from deploy.authoring.counterfactual.recorded_commands import RecordedCommand
from deploy.authoring.counterfactual.walk import Counterfactual, Summary
from deploy.cli.counterfactual import _lines
from domain.inventory.stock import ReceiveStock, ReserveStock
from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, RawRecord, metadata_of
from rayfold import Command, Refused, Registry
from tests.unit.deploy.authoring.accounts import domain

KEPT = ("keep_commands=True", "keep_commands=False")
THEN = domain()


def made(by: Registry, name: str, fields: dict[str, Any]) -> Command:
    return by.commands[name].model(**fields)


async def sent(log: MemoryLog, *commands: tuple[str, dict[str, Any]], by: Registry = THEN) -> int:
    """Have a real write side decide them; return the last position."""
    runtime = LocalRuntime(by, log)
    position = 0
    for name, fields in commands:
        try:
            receipt = await runtime.send(made(by, name, fields))
        except Refused:
            continue
        position = receipt.position
    return position


async def tried(
    log: MemoryLog, now: Registry, **asked: Any
) -> tuple[list[dict[str, Any]], Summary]:
    """Return what is found, and the summary."""
    walk = Counterfactual(now, log, **asked)
    found = [finding.as_json() async for finding in walk.findings()]
    return found, walk.summary


def scheduled(envelope: Envelope) -> NewRecord:
    body = {
        "command": envelope.command,
        "stream": envelope.stream,
        "payload": msgspec.Raw(envelope.payload),
        "fingerprint": envelope.fingerprint,
        "not_before": "2026-01-01T00:00:00Z",
    }
    return NewRecord("CommandScheduled", msgspec.json.encode(body), {}, str(uuid4()))


def put(amount: int, account: str = "a") -> tuple[str, dict[str, Any]]:
    return "deposit", {"account_id": account, "amount": amount}


def take(amount: int, account: str = "a") -> tuple[str, dict[str, Any]]:
    return "withdraw", {"account_id": account, "amount": amount}


def move(amount: int, account: str = "a", to: str = "b") -> tuple[str, dict[str, Any]]:
    return "transfer", {"account_id": account, "to": to, "amount": amount}


FEE = (
    "return [Withdrawn(account_id=command.account_id, amount=command.amount)]",
    "return [Withdrawn(account_id=command.account_id, amount=command.amount,"
    " fee=1 if command.amount > 5 else 0)]",
)
HALVING = (
    "class Transfers(",
    """
class Halving(Middleware, name="halving"):
    async def command(self, command, context, proceed):
        return await proceed(command.replace(amount=command.amount // 2))


class Transfers(""",
)
COVERED = ("if command.amount > state.balance:", "if command.amount > state.balance - 10:")


async def test_the_same_code_decides_the_same_although_it_draws_ids() -> None:
    log = MemoryLog()
    await sent(log, put(20), take(5), take(99), move(5), put(1, "b"))
    found, summary = await tried(log, domain())
    assert not found
    assert (summary.same, summary.different, summary.not_kept) == (4, 0, 0)


async def test_a_changed_event_is_reported_with_both_versions() -> None:
    log = MemoryLog()
    await sent(log, put(20), take(5), take(6))
    [found], summary = await tried(log, domain(FEE))
    assert (summary.same, summary.different) == (2, 1)
    assert (found["stream"], found["revision"]) == ("account-a", 2)
    assert (found["command"], found["payload"]) == ("withdraw", {"account_id": "a", "amount": 6})
    assert [each["data"]["fee"] for each in found["recorded"]] == [0]
    [now] = found["now"]["events"]
    assert (now["data"]["fee"], now["data"]["slip"]) == (1, "(drawn)")


async def test_a_refusal_is_reported_with_its_rule_and_leads_to_no_other_difference() -> None:
    log = MemoryLog()
    await sent(log, put(20), take(15), put(20), take(5))
    [found], summary = await tried(log, domain(COVERED))
    assert found["now"] == {"rejected": "not-covered", "detail": "the account has too little"}
    # The state is the one that was recorded: 20 - 15 + 20, of which 5 are covered.
    assert (summary.same, summary.different) == (3, 1)


async def test_code_that_raises_is_reported() -> None:
    log = MemoryLog()
    await sent(log, put(1))
    broken = ("return [Deposited(", "return 1 / 0 or [Deposited(")
    [found], _ = await tried(log, domain(broken))
    assert found["now"] == {"error": "ZeroDivisionError: division by zero"}


async def test_more_fewer_and_other_events_are_differences() -> None:
    log = MemoryLog()
    await sent(log, put(1))
    deposited = "[Deposited(account_id=command.account_id, amount=command.amount)]"
    for now in ("[]", f"{deposited} * 2", deposited.replace("Deposited", "Withdrawn")):
        _, summary = await tried(log, domain((f"return {deposited}", f"return {now}")))
        assert (summary.same, summary.different) == (0, 1), now


async def test_a_decision_over_several_aggregates_sees_each_as_it_was() -> None:
    log = MemoryLog()
    await sent(log, put(10), move(4), move(4, "b", "c"), put(100), put(100, "b"), move(6))
    found, summary = await tried(log, domain())
    assert not found
    assert summary.same == 6
    rich = 'if states["payer"].balance < command.amount:'
    now = domain((rich, rich.replace("command.amount", "command.amount + states['payee'].balance")))
    found, _ = await tried(log, now)
    # `a` had 6 + 100 and `b` 0 + 100 at the last: 106 is just enough.
    assert not found
    now = domain((rich, rich.replace("<", "<=")))
    [one] = (await tried(log, now))[0]
    assert (one["stream"], one["payload"]["amount"]) == ("account-b", 4)
    assert [each["stream"] for each in one["recorded"]] == ["account-b", "account-c"]


async def test_an_aggregate_only_read_is_as_it_was_even_without_recorded_revisions() -> None:
    rule = 'if states["payer"].balance < command.amount:'
    deposit = "            Deposited(account_id=command.to, amount=command.amount),\n"
    log, silent = MemoryLog(), MemoryLog()
    await sent(log, put(9), put(4, "b"), move(1), put(90, "b"), by=domain((deposit, "")))
    async for raw in log.read_all(["account-"]):
        about = {key: value for key, value in metadata_of(raw).items() if key != "streams"}
        record = NewRecord(raw.event_type, raw.data, about, str(uuid4()))
        await silent.append([StreamAppend(raw.stream, ANY, [record])])
    four = domain((deposit, ""), (rule, 'if states["payee"].balance != 4:'))
    for each in (log, silent):
        for most in (1, 100):
            assert await tried(each, four, most=most) == ([], Summary(same=4))


async def test_a_small_cache_of_states_gives_the_same_result() -> None:
    log = MemoryLog()
    accounts = [f"x{number}" for number in range(9)]
    for amount in range(3):
        await sent(log, *(put(amount + 9, each) for each in accounts))
        await sent(log, *(take(9, each) for each in accounts), move(0, "x1", "x2"))
    for now in (domain(), domain(COVERED), domain(FEE)):
        many, whole = await tried(log, now)
        few, summary = await tried(log, now, most=2)
        assert (few, summary) == (many, whole)


async def test_a_command_that_is_gone_or_does_not_validate_is_counted() -> None:
    log = MemoryLog()
    await sent(log, put(9), take(1))
    [found], summary = await tried(log, domain(('name="withdraw"', 'name="take-out"')))
    assert (found["why"], summary.not_decidable) == ("command_gone", {"command_gone": 1})
    strict = (
        'class Deposit(Command, name="deposit"):\n    account_id: str',
        'class Deposit(Command, name="deposit"):\n    account_id: str\n    currency: str',
    )
    [found], summary = await tried(log, domain(strict))
    assert (found["why"], summary.same) == ("payload_invalid", 1)
    assert "currency" in found["reason"]


async def test_unreadable_history_is_reported_and_does_not_stop_the_run() -> None:
    log = MemoryLog()
    await sent(log, put(9), take(1), put(1, "b"))
    renamed = ('class Withdrawn(Event, name="Withdrawn")', 'class Withdrawn(Event, name="Taken")')
    found, summary = await tried(log, domain(renamed))
    assert [each["why"] for each in found] == ["history_unreadable"]
    assert summary.same == 2


EXITS = "\n        raise SystemExit(0)"


async def test_code_that_exits_in_a_fold_or_validator_is_reported_and_ends_nothing() -> None:
    """Otherwise an exit code of 0 would say that nothing differs."""
    log = MemoryLog()
    await sent(log, put(9), put(1))
    evolve = "    def evolve(state, event):"
    found, summary = await tried(log, domain((evolve, evolve + EXITS)))
    assert [each["verdict"] for each in found] == ["different", "not decidable"]
    assert summary.not_decidable == {"history_unreadable": 1}
    deposit = 'class Deposit(Command, name="deposit"):'
    validated = f"{deposit}\n    def model_post_init(self, context, /):{EXITS}"
    found, _ = await tried(log, domain((deposit, validated)))
    assert [each["why"] for each in found] == ["payload_invalid"] * 2


async def test_an_upcast_event_is_compared_as_the_present_code_reads_it() -> None:
    log = MemoryLog()
    await sent(log, put(9), put(1))
    version = 'class Deposited(Event, name="Deposited"'
    changes = (
        (version, f"{version}, version=2"),
        (
            "class Withdrawn(Event",
            '@upcaster("Deposited", from_version=1)\ndef cents(data):\n'
            '    return data | {"amount": data["amount"] * 100}\n\n\nclass Withdrawn(Event',
        ),
    )
    found, _ = await tried(log, domain(*changes))
    assert len(found) == 2
    deposited = "[Deposited(account_id=command.account_id, amount=command.amount"
    found, summary = await tried(log, domain(*changes, (deposited, f"{deposited} * 100")))
    assert not found
    assert summary.same == 2


async def test_a_new_field_with_a_default_is_no_difference() -> None:
    log = MemoryLog()
    await sent(log, put(9), take(1))
    more = ("    fee: int = 0\n", "    fee: int = 0\n    at: str = 'desk'\n")
    found, summary = await tried(log, domain(more))
    assert not found
    assert summary.same == 2


async def test_a_time_from_a_factory_is_not_a_difference_and_a_list_from_one_is() -> None:
    clock = "    on: str = Field(default_factory=lambda: datetime.now(UTC).date().isoformat())\n"
    yesterday = "    on: str = Field(default_factory=lambda: '2001-01-01')\n"
    tags = "    tags: list[str] = Field(default_factory=list)\n"
    fee = "    fee: int = 0\n"
    set_tags = ("amount=command.amount)]", "amount=command.amount, tags=['x'])]")
    log = MemoryLog()
    await sent(log, put(9), take(1), by=domain((fee, fee + yesterday)))
    assert not (await tried(log, domain((fee, fee + clock))))[0]
    log = MemoryLog()
    await sent(
        log, put(9), take(1), by=domain((fee, fee + tags), (FEE[0], FEE[0].replace(*set_tags)))
    )
    assert len((await tried(log, domain((fee, fee + tags))))[0]) == 1


async def test_commands_that_were_not_kept_are_counted_and_not_decided() -> None:
    log = MemoryLog()
    await sent(log, put(9), take(1), move(1), by=domain(KEPT))
    found, summary = await tried(log, domain())
    assert not found
    assert (summary.decided, summary.not_kept, summary.says_nothing) == (0, 3, True)
    await sent(log, put(1))
    _, summary = await tried(log, domain())
    assert (summary.decided, summary.not_kept, summary.says_nothing) == (1, 3, False)


async def test_a_command_is_recorded_only_in_its_first_event_and_only_where_it_is_kept() -> None:
    for by, kept in ((domain(KEPT), 0), (THEN, 1)):
        log = MemoryLog()
        await sent(log, put(9), move(1), by=by)
        about = [metadata_of(raw) async for raw in log.read_all(["account-"])]
        has = ["command" in each for each in about]
        assert has == [bool(kept), bool(kept), False]
        if kept:
            assert (about[1]["command"], about[1]["payload"]) == (
                "transfer",
                '{"account_id":"a","to":"b","amount":1}',
            )


async def test_a_command_of_a_process_is_decided_again_although_its_aggregate_keeps_none() -> None:
    log, command_id = MemoryLog(), uuid4()
    by = domain(KEPT)
    command = made(by, *take(6))
    await sent(log, put(20), by=by)
    send = _Send(command_id, "withdraw", msgspec.Raw(command.model_dump_json().encode()))
    step = new_record("ProcessSawEvent", StepRecord(ProcessTold("t"), [send]), "w", "")
    await log.append([StreamAppend("process-saga-1", None, [step])])
    await LocalRuntime(by, log).send(command, command_id=command_id)
    [found], summary = await tried(log, domain(FEE))
    assert (found["command_id"], summary.not_kept) == (str(command_id), 1)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_command_that_middleware_may_have_rewritten_is_marked(kept: bool) -> None:
    """The log has it as its process sent it, unless its aggregate keeps its commands."""
    log, command_id = MemoryLog(), uuid4()
    by = domain(HALVING) if kept else domain(HALVING, KEPT)
    command = made(by, *take(6))
    await sent(log, put(40), by=by)
    send = _Send(command_id, "withdraw", msgspec.Raw(command.model_dump_json().encode()))
    step = new_record("ProcessSawEvent", StepRecord(ProcessTold("t"), [send]), "w", "")
    await log.append([StreamAppend("process-saga-1", None, [step])])
    await LocalRuntime(by, log).send(command, command_id=command_id)
    found, summary = await tried(log, by)
    assert summary.different == len(found) == (0 if kept else 1)
    if not kept:
        assert found[0]["perhaps_rewritten"]
        assert "as it was sent" in "\n".join(_lines(found[0]))


async def test_a_command_scheduled_before_the_start_is_decided_again() -> None:
    log, command_id = MemoryLog(), uuid4()
    by = domain(KEPT)
    command = made(by, *take(6))
    envelope = enclose(by, command, command_id=command_id)
    await log.append([StreamAppend(f"schedule-{command_id}", None, [scheduled(envelope)])])
    since = await sent(log, put(20), by=by)
    await LocalRuntime(by, log).send(command, command_id=command_id)
    [found], summary = await tried(log, domain(FEE), since=since)
    assert (found["command_id"], summary.not_kept) == (str(command_id), 0)


async def test_the_time_of_a_command_is_the_recorded_one() -> None:
    fields = "    account_id: str\n    amount: int\n"
    event, command = (
        f'class {name}", name="{stored}"):\n{fields}'.replace('", name', ", name")
        for name, stored in (("Deposited(Event", "Deposited"), ("Deposit(Command", "deposit"))
    )
    deposited = "[Deposited(account_id=command.account_id, amount=command.amount"
    timed = (
        (event, event + "    at: UtcDatetime\n"),
        (command, command + "    at: Now = NOW\n"),
        (deposited, f"{deposited}, at=command.at"),
    )
    log = MemoryLog()
    await sent(log, put(1), by=domain(*timed))
    found, summary = await tried(log, domain(*timed))
    assert not found
    assert summary.same == 1
    # It was kept, so nothing that is made of it is drawn.
    later = (deposited, f"{deposited}, at=command.at.replace(year=2001)")
    assert len((await tried(log, domain(*timed[:2], later)))[0]) == 1

    # A scheduled one is given its time when it is sent: nobody knows exactly which that was.
    by, log, command_id = domain(*timed, KEPT), MemoryLog(), uuid4()
    envelope = enclose(by, made(by, *put(1)), command_id=command_id)
    await log.append([StreamAppend(f"schedule-{command_id}", None, [scheduled(envelope)])])
    await LocalRuntime(by, log).send(made(by, *put(1)), command_id=command_id)
    found, summary = await tried(log, domain(*timed, KEPT))
    assert not found
    assert summary.same == 1
    [one] = (
        await tried(
            log,
            domain(
                *timed[:2],
                KEPT,
                (
                    "return [Deposited(account_id=command.account_id, amount=command.amount",
                    "return [Deposited(account_id=command.account_id, at=command.at, amount=7",
                ),
            ),
        )
    )[0]
    assert [each["data"]["at"] for each in one["now"]["events"]] == ["(drawn)"]


async def test_commands_before_the_start_are_folded_and_not_decided_again() -> None:
    log = MemoryLog()
    since = await sent(log, put(20), take(15))
    await sent(log, put(20), take(16), take(1))
    found, summary = await tried(log, domain(COVERED), since=since)
    assert [each["payload"]["amount"] for each in found] == [16, 1]
    assert (summary.same, summary.different) == (1, 2)


async def test_a_command_with_an_event_before_the_start_is_not_decided_again() -> None:
    deposited = "[Deposited(account_id=command.account_id, amount=command.amount)]"
    by, log, command_id = domain(KEPT, (deposited, f"{deposited} * 2")), MemoryLog(), uuid4()
    envelope = enclose(by, made(by, *put(1)), command_id=command_id)
    await log.append([StreamAppend(f"schedule-{command_id}", None, [scheduled(envelope)])])
    await LocalRuntime(by, log).send(made(by, *put(1)), command_id=command_id)
    first, _ = [raw.position async for raw in log.read_all(["account-"])]
    assert (await tried(log, by))[1] == Summary(same=1)
    assert await tried(log, by, since=first) == ([], Summary())


async def test_one_category_can_be_decided_alone() -> None:
    log = MemoryLog()
    await sent(log, put(20), take(6))
    other = domain(FEE)
    assert len((await tried(log, other, category="account"))[0]) == 1
    _, summary = await tried(log, other, category="other")
    assert summary == Summary()


async def test_an_aggregate_that_was_deleted_begins_again() -> None:
    log = MemoryLog()
    await sent(log, put(20), put(1, "b"))
    await log.delete_stream("account-a")
    await sent(log, put(3), take(3))
    for most in (1, 100):
        found, summary = await tried(log, domain(), most=most)
        assert not found, found
        assert not summary.different
    found, _ = await tried(log, domain(COVERED))
    assert [each["payload"]["amount"] for each in found] == [3]


async def test_events_of_other_writers_are_folded_and_counted() -> None:
    log = MemoryLog()
    theirs = NewRecord("Deposited", b'{"account_id":"a","amount":50}', {}, str(uuid4()))
    await log.append([StreamAppend("account-a", ANY, [theirs])])
    await sent(log, take(50))
    found, summary = await tried(log, domain())
    assert not found
    assert (summary.same, summary.foreign_events) == (1, 1)


@pytest.mark.parametrize(
    "streams", ['{"s-1": Infinity}', "[1]", "[" * 100_000, '{"s-1": "x"}', "{"]
)
def test_invalid_metadata_about_streams_is_ignored(streams: str) -> None:
    metadata = json.dumps({"streams": streams}).encode()
    raw = RawRecord("E", b"{}", metadata, "s-0", 0, 0, 0)
    finding = walk.Finding(raw, "id", RecordedCommand("a", b"{}"), [raw])
    assert walk._before(finding, "s-1") is None


async def test_the_reference_domain_keeps_the_commands_of_its_stock() -> None:
    registry = Registry.load("domain")
    runtime = LocalRuntime(registry)
    await runtime.send(ReceiveStock(sku="tea", quantity=2))
    await runtime.send(ReserveStock(sku="tea", quantity=1))
    assert isinstance(runtime.log, MemoryLog)
    found, summary = await tried(runtime.log, registry)
    assert (found, summary.decided, summary.not_kept) == ([], 2, 0)
