"""Reads that are sent together: each gets its own answer, and waits for no other for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import grpc
import pytest
from kurrentdbclient.exceptions import ServiceUnavailableError

from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.kurrentdb import stream_reader
from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.stream_reader import BURST, THREADS, StreamReader
from eventstore.kurrentdb.sync_client import Responses, SyncClient, decoded
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from tests.contract.eventstore.process import ServerProcess

DEADLINE = 20.0
STREAMS = 3 * BURST + 5


@pytest.fixture
async def log(server: ServerProcess) -> AsyncIterator[EventLog]:
    connected = EventLog(server.uri)
    yield connected
    await connected.close()


@pytest.fixture
async def reader(server: ServerProcess) -> AsyncIterator[StreamReader]:
    reader = StreamReader(server.uri)
    yield reader
    reader.close()


def records(stream: str, count: int) -> list[NewRecord]:
    return [NewRecord("Placed", b'"%b"' % stream.encode(), {}, str(uuid4())) for _ in range(count)]


async def streams_of(log: EventLog, count: int) -> dict[str, int]:
    """Write so many streams; return how many events each has."""
    lengths = {f"order-{uuid4()}": at % 4 for at in range(count)}
    await log.append(
        [StreamAppend(each, None, records(each, length)) for each, length in lengths.items()]
    )
    return lengths


async def length_of(reader: StreamReader, stream: str) -> int | None:
    try:
        found = await reader.read(stream, after=None, backwards=False, limit=10)
    except StreamTombstoned:
        return None
    assert all(each.data == b'"%b"' % stream.encode() for each in found)
    return len(found)


async def test_each_read_gets_its_own(log: EventLog, reader: StreamReader) -> None:
    lengths: dict[str, int | None] = {**await streams_of(log, STREAMS)}
    for gone in [*lengths][1::7]:
        await log.delete_stream(gone, tombstone=True)
        lengths[gone] = None
    async with asyncio.timeout(DEADLINE):
        for _ in range(3):
            found = await asyncio.gather(*(length_of(reader, each) for each in lengths))
            assert dict(zip(lengths, found, strict=True)) == lengths


class Held:
    """Lets bursts wait that have a stream in `names`; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        self.go = threading.Event()
        self.began = threading.Semaphore(0)
        self.bursts: list[int] = []
        self._read = StreamReader._read
        monkeypatch.setattr(StreamReader, "_read", lambda *args: self.read(*args))

    def read(self, reader: StreamReader, reads: Sequence[Any], answers: Any) -> None:
        self.bursts.append(len(reads))
        self.began.release()
        if {each.stream for each in reads} & self.names:
            assert self.go.wait(DEADLINE)
        self._read(reader, reads, answers)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


async def test_reads_begun_at_the_same_time_are_sent_together(
    log: EventLog, reader: StreamReader, held: Held
) -> None:
    lengths = await streams_of(log, STREAMS)
    await asyncio.gather(*(length_of(reader, each) for each in lengths))
    assert held.bursts == [BURST, BURST, BURST, 5]


async def test_a_late_burst_of_reads_delays_no_other(
    log: EventLog, reader: StreamReader, held: Held
) -> None:
    lengths = await streams_of(log, THREADS)
    slow, *others = lengths
    held.names = {slow}
    async with asyncio.timeout(DEADLINE):
        waiting = asyncio.create_task(length_of(reader, slow))
        await asyncio.to_thread(held.began.acquire)
        for each in others:
            assert await length_of(reader, each) == lengths[each]
        assert not waiting.done()
        held.go.set()
        assert await waiting == lengths[slow]


async def test_there_are_no_more_bursts_than_threads(
    log: EventLog, reader: StreamReader, held: Held
) -> None:
    lengths = await streams_of(log, THREADS + 2)
    held.names = {*lengths}
    async with asyncio.timeout(DEADLINE):
        waiting = []
        for at, each in enumerate(lengths):
            waiting.append(asyncio.create_task(length_of(reader, each)))
            if at < THREADS:
                await asyncio.to_thread(held.began.acquire)
        assert len(reader._bursts) == THREADS
        held.go.set()
        assert await asyncio.gather(*waiting) == [*lengths.values()]
    assert sum(held.bursts) == THREADS + 2


class Answers:
    """Lets the answer for one stream wait, or be `failure`; counts those that were taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slow = ""
        self.failing = ""
        self.failure: Exception = OSError("no such file")
        self.go = threading.Event()
        self.taken = threading.Semaphore(0)
        self._taken = StreamReader._taken
        monkeypatch.setattr(StreamReader, "_taken", lambda *args: self.take(*args))

    def take(self, reader: StreamReader, read: Any, responses: Any, client: Any) -> Any:
        self.taken.release()
        if read.stream == self.slow:
            assert self.go.wait(DEADLINE)
        if read.stream == self.failing:
            return reader._failed(read, self.failure, client)
        return self._taken(reader, read, responses, client)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


async def test_answers_do_not_wait_for_those_behind_them(
    log: EventLog, reader: StreamReader, answers: Answers
) -> None:
    lengths = await streams_of(log, 8)
    *others, answers.slow = lengths
    async with asyncio.timeout(DEADLINE):
        reading = {each: asyncio.create_task(length_of(reader, each)) for each in lengths}
        for each in others:
            assert await reading[each] == lengths[each]
        assert not reading[answers.slow].done()
        answers.go.set()
        assert await reading[answers.slow] == lengths[answers.slow]


async def test_a_read_that_is_tried_again_delays_no_other(
    log: EventLog, server: ServerProcess, answers: Answers
) -> None:
    lengths = await streams_of(log, 8)
    failing, *others = lengths
    answers.failing = failing
    answers.failure = ServiceUnavailableError("no leader")
    patient = StreamReader(server.uri, patience=DEADLINE)
    try:
        async with asyncio.timeout(DEADLINE):
            reading = {each: asyncio.create_task(length_of(patient, each)) for each in lengths}
            for each in others:
                assert await reading[each] == lengths[each]
            for _ in range(len(lengths) + 2):
                await asyncio.to_thread(answers.taken.acquire)
            assert not reading[answers.failing].done()
            answers.failing = ""
            assert await reading[failing] == lengths[failing]
    finally:
        patient.close()


async def test_a_read_that_nobody_waits_for_is_not_tried_again(
    log: EventLog, server: ServerProcess, answers: Answers
) -> None:
    lengths = await streams_of(log, 2)
    answers.failing, other = lengths
    answers.failure = ServiceUnavailableError("no leader")
    patient = StreamReader(server.uri, patience=DEADLINE)
    try:
        async with asyncio.timeout(DEADLINE):
            leaving = asyncio.create_task(length_of(patient, answers.failing))
            await asyncio.to_thread(answers.taken.acquire)
            leaving.cancel()
            await asyncio.gather(*patient._bursts)
            assert await length_of(patient, other) == lengths[other]
    finally:
        patient.close()


async def test_a_record_that_cannot_be_decoded_fails_only_its_own_read(
    log: EventLog, reader: StreamReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = await streams_of(log, 8)
    odd = next(each for each, length in lengths.items() if length)

    def refusing(response: Any) -> Any:
        record = decoded(response)
        if isinstance(record, RawRecord) and record.stream == odd:
            raise KeyError("created")
        return record

    monkeypatch.setattr(stream_reader, "decoded", refusing)
    async with asyncio.timeout(DEADLINE):
        reading = {each: asyncio.create_task(length_of(reader, each)) for each in lengths}
        for each, length in lengths.items():
            if each != odd:
                assert await reading[each] == length
        with pytest.raises(StoreUnavailable):
            await reading[odd]


async def test_reads_are_cancelled_if_not_all_of_them_can_begin(
    log: EventLog, reader: StreamReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = await streams_of(log, 4)
    begun: list[Responses] = []
    begin = SyncClient.responses

    def third_fails(client: SyncClient, *args: Any) -> Responses:
        if len(begun) == 2:
            raise ValueError("the channel is closed")
        begun.append(begin(client, *args))
        return begun[-1]

    monkeypatch.setattr(SyncClient, "responses", third_fails)
    async with asyncio.timeout(DEADLINE):
        found = await asyncio.gather(
            *(length_of(reader, each) for each in lengths), return_exceptions=True
        )
    assert all(isinstance(each, StoreUnavailable) for each in found)
    for call in begun:
        with pytest.raises(grpc.RpcError) as broken:
            list(call)
        assert broken.value.code() is grpc.StatusCode.CANCELLED


async def test_a_cancelled_read_does_not_disturb_the_next(
    log: EventLog, reader: StreamReader, held: Held
) -> None:
    lengths = await streams_of(log, 2)
    one, other = lengths
    held.names = {one}
    async with asyncio.timeout(DEADLINE):
        leaving = asyncio.create_task(length_of(reader, one))
        await asyncio.to_thread(held.began.acquire)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        held.go.set()
        assert await length_of(reader, other) == lengths[other]


async def test_a_read_by_a_closed_reader_fails_at_once(server: ServerProcess) -> None:
    reader = StreamReader(server.uri)
    reader.close()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreUnavailable):
            await length_of(reader, "order-1")
