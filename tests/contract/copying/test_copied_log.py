"""A log that is copied to another store: the same records in the same order, or a refusal."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from deploy.cli.copying import _run as command
from deploy.copying import copy as copy_module
from deploy.copying.copy import CopyRefused
from deploy.copying.own_records import UnknownRecord
from deploy.errors import StartError
from eventstore.deletions import is_cut
from eventstore.errors import StreamTombstoned
from eventstore.identity import begin_copy, store_id
from eventstore.kurrentdb.whole_log import WholeLog
from eventstore.one_record import first_record
from eventstore.port import ANY, StreamAppend
from tests.contract.copying.copies import (
    also_older,
    copied,
    everything,
    new,
    stream_of,
    written,
)
from tests.ports import free_port
from tests.stack import rayfold


@also_older
async def test_records_of_other_clients_are_copied_as_they_are(
    source: WholeLog, target: WholeLog, source_uri: str
) -> None:
    odd = [
        NewEvent("an odd type!", b"\x00\xff", b"\xfe no JSON", "application/octet-stream"),
        NewEvent("Numbers", b'{ "a" : 1.10 }', b'{"n": 1, "b": [true, null], "t": "x"}'),
        NewEvent("NoMetadata", b"{}"),
        NewEvent("$>", b"0@order-1"),
        NewEvent("Large", b'"%b"' % (b"x" * 900_000)),
    ]
    with KurrentDBClient(source_uri) as client:
        for stream in ("theirs", "Theirs-2", "process-it", "schedule-it"):
            some = odd if stream[0] in "tT" else [NewEvent("ProcessSawEvent", b"no JSON")]
            if stream == "schedule-it":
                some = [NewEvent("ScheduledCommandAccepted", b'["no object"]')]
            client.append_to_stream(stream, current_version=StreamState.ANY, events=some)
    told = await copied(source, target)
    assert told.records == 12
    ours, theirs = await everything(source), await everything(target)
    names = ("theirs", "Theirs-2", "process-it", "schedule-it")
    there = [each for each in theirs if each.stream in names]
    assert [e.content for e in ours if e.stream in names] == [each.content for each in there]
    assert [e.data for e in ours if e.stream in names] == [each.data for each in there]
    assert json.loads(there[1].metadata) == {"n": 1, "b": [True, None], "t": "x"}
    assert there[0].metadata == b"\xfe no JSON"


@also_older
async def test_deleted_and_cut_streams_stay_so_and_revisions_stay_the_same(
    source: WholeLog, target: WholeLog
) -> None:
    for stream in ("gone", "again", "cut", "few", "never", "whole"):
        for number in range(5):
            await written(source, f"order-{stream}", new(secret=stream, number=number))
    for stream in ("gone", "again"):
        await source.delete_stream(f"order-{stream}")
    await source.delete_stream("order-never", tombstone=True)
    await source.truncate("order-cut", 3)
    await source.keep_latest("order-few", 2)
    for number in range(2):
        await written(source, "order-again", new(number=number))
    told = await copied(source, target)
    assert (told.records, told.streams, told.tombstoned) == (11, 4, 1)
    left = {"whole": [*range(5)], "cut": [3, 4], "few": [3, 4], "again": [5, 6]}
    for stream, revisions in left.items():
        for log in (source, target):
            found = await stream_of(log, f"order-{stream}")
            assert [raw.revision for raw in found] == revisions
            # Of what began again all is there that counts; of what was cut it is not.
            assert await is_cut(log, f"order-{stream}", revisions[0]) is (stream == "few")
    assert await first_record(target, "order-gone") is None
    with pytest.raises(StreamTombstoned):
        await first_record(target, "order-never")
    secrets = [record.data for record in await everything(target) if b"secret" in record.data]
    assert len(secrets) == 9  # whole, and what is left of those that were cut
    # It counts on where it ended, as it would have.
    for log in (source, target):
        answer = await log.append([StreamAppend("order-gone", None, [new()])])
        assert answer[0].last_revision in (5, None)  # type: ignore[union-attr]
        assert [raw.revision for raw in await stream_of(log, "order-gone")] == [5]

    with pytest.raises(CopyRefused, match="of order-gone"):  # as the target was written to
        await copied(source, target)


async def test_a_target_that_is_not_a_copy_is_left_unchanged(
    source: WholeLog, target: WholeLog
) -> None:
    await written(source, "order-1", new(), new())
    await written(target, "order-1", new())
    with pytest.raises(CopyRefused, match="give an empty store"):
        await copied(source, target)
    assert len(await everything(target)) == 1
    await target.delete_stream("order-1")
    await store_id(target)
    with pytest.raises(CopyRefused, match="a stack was started on the target"):
        await copied(source, target)
    assert len(await everything(target)) == 2


async def test_a_target_on_which_a_stack_was_started_is_refused(
    source: WholeLog, target: WholeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begun(log: WholeLog) -> None:
        await store_id(log)  # in the moment before
        await begin_copy(log)

    await written(source, "order-1", new())
    monkeypatch.setattr(copy_module, "begin_copy", begun)
    with pytest.raises(CopyRefused, match="a stack was started on the target"):
        await copied(source, target)
    assert await stream_of(target, "order-1") == []


async def test_a_record_that_this_release_does_not_know_is_refused(
    source: WholeLog, target: WholeLog
) -> None:
    for stream in ("rayfold-new", "process-fulfilment-1", "rayfold-process-fulfilment"):
        await source.delete_stream("rayfold-new")
        await written(source, stream, new("NewOfItsKind", position=1))
        with pytest.raises(UnknownRecord, match="NewOfItsKind"):
            await copied(source, target)


@also_older
async def test_many_records_are_copied_in_order(source: WholeLog, target: WholeLog) -> None:
    started = datetime.now(UTC)
    for number in range(30):
        some = [StreamAppend(f"order-{each}", ANY, [new(number=number)]) for each in range(20)]
        await source.append(some)
    told = await copied(source, target)
    assert (told.records, told.streams, told.by_category) == (600, 20, {"order": 600})
    ours, theirs = await everything(source), await everything(target)
    named_so = [each.content for each in theirs if each.stream.startswith("order-")]
    assert [each.content for each in ours if each.stream.startswith("order-")] == named_so
    raw = await first_record(target, "order-0")
    assert raw is not None
    assert raw.recorded_at is not None
    assert raw.recorded_at >= started


async def test_large_records_are_copied_in_small_batches(
    source: WholeLog, target: WholeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(25):
        await written(source, "order-1", new(text="x" * 900_000))
    append, read = WholeLog.append_whole, WholeLog.read_whole
    appended, most = 0, 0

    async def counted(log: WholeLog, records: Any) -> Any:
        nonlocal appended, most
        appended += sum(each.size for each in records)
        most = max(most, appended)
        return await append(log, records)

    def read_again(log: WholeLog, *args: Any, **kwargs: Any) -> Any:
        nonlocal appended
        appended = 0
        return read(log, *args, **kwargs)

    monkeypatch.setattr(WholeLog, "append_whole", counted)
    monkeypatch.setattr(WholeLog, "read_whole", read_again)
    assert (await copied(source, target)).records == 25
    assert most < 10_000_000


def test_the_command_copies_and_says_what_comes_next(source_uri: str, target_uri: str) -> None:
    with KurrentDBClient(source_uri) as client:
        events = [NewEvent("KeysNamed", json.dumps({"id": str(uuid4())}).encode())]
        for stream in ("rayfold-personal-keys", "order-1"):
            client.append_to_stream(stream, current_version=StreamState.ANY, events=events)
    done = ran("--from", source_uri, "--to", target_uri)
    assert done.returncode == 0, done.stderr
    assert "the copy has 2 records of 2 streams, 0 of them from before" in done.stdout
    assert "  order: 1\n" in done.stdout
    assert "next: start a stack on the copy with an empty Postgres" in done.stdout
    assert "keys of personal data" in done.stdout


async def test_the_command_says_why_it_does_not_copy(source_uri: str, target_uri: str) -> None:
    nobody = f"kdb://admin:secret@127.0.0.1:{free_port()}?Tls=false"
    with KurrentDBClient(target_uri) as client:
        events = [NewEvent("Noted", b"{}")]
        client.append_to_stream("order-1", current_version=StreamState.ANY, events=events)
    for source, target, why in (
        (nobody, target_uri, "the source, kdb://admin:…@"),
        (source_uri, nobody, "the target, kdb://admin:…@"),
        (source_uri, source_uri, "the same store"),
        ("nonsense", target_uri, "the source, nonsense, cannot be used"),
    ):
        with pytest.raises(StartError) as refused:
            await command(source, target, up_to_now=False)
        assert why in str(refused.value)
        assert "secret" not in str(refused.value)
    done = ran("--from", source_uri, "--to", target_uri)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the target has more than the source" in done.stderr


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [*rayfold(), "copy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
