"""A log that encrypts personal data, and is used like any other."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast
from uuid import UUID

from eventstore.personal.forgotten import Forgotten
from eventstore.personal.keys import SubjectKey, SubjectKeys
from eventstore.personal.sealing import COMMAND, keys_in, seal, subjects_in, unseal
from eventstore.port import (
    BEING_FORGOTTEN,
    AppendResult,
    Conflict,
    JointAppend,
    Log,
    StreamAppend,
)
from eventstore.records import Batch, Decrypted, NewRecord, RawRecord
from rayfold.personal import dump, is_marked, plain
from rayfold.tenants import NoTenant, tenant_of_stream

A = TypeVar("A", bound=StreamAppend | JointAppend)

AT_ONCE = 512
"""The most records whose keys are read together."""

_ESCAPED = b'\\"$personal\\"'
"""A mark in a command's JSON, which is itself a text in the JSON of the metadata."""


class PersonalLog:
    """A `Log` over another log.

    Marked values of a record are encrypted on append, and decrypted and marked on reading; a value
    whose key is destroyed is replaced by its stand-in. Keys are read once for all records of a
    call. Records without personal data cost only a search for the mark.
    """

    def __init__(
        self, log: Log, keys: SubjectKeys, *, tenants: bool = False, to_compare: bool = False
    ) -> None:
        """`tenants`: a subject belongs to the tenant of the record's stream.

        `to_compare`: values are read plain, not marked, including those of kept commands.
        """
        self.beneath = log
        """The log without decryption, to compare or show what is written there."""
        self._keys = keys
        self._tenant_of = _tenant_of if tenants else _no_tenant
        self._to_compare = to_compare
        self.delete_stream = log.delete_stream
        self.keep_latest = log.keep_latest
        self.end_position = log.end_position
        self.is_atomic = log.is_atomic

    @property
    def receipts_share_position(self) -> bool:
        """See `Log.receipts_share_position`."""
        return self.beneath.receipts_share_position

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        """See `Log.append`; see `sealed` for further conflicts."""
        ready = await self.sealed(appends)
        writing = [each for each in ready if not isinstance(each, Conflict)]
        answers = iter(await self.beneath.append(writing) if writing else ())
        return [each if isinstance(each, Conflict) else next(answers) for each in ready]

    async def sealed(self, appends: Sequence[A]) -> list[A | Conflict]:
        """Return appends with their personal data encrypted, to write them here or elsewhere.

        Data of a subject who is being forgotten gives a conflict, because the decision may depend
        on forgotten data. After folding again, it no longer does.

        Raises:
            StoreUnavailable: the keys cannot be read.
        """
        of = [self._subjects_of(each) for each in appends]
        found = set().union(*of)
        if not found:
            return [*appends]
        keys = await self._keys.to_write(found)
        return [
            self._sealed(each, keys) if subjects <= keys.keys() else BEING_FORGOTTEN
            for each, subjects in zip(appends, of, strict=True)
        ]

    async def forgotten(self) -> Forgotten:
        """Return the forgotten subjects.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        return await self._keys.forgotten()

    async def opened(self, records: Sequence[RawRecord]) -> list[RawRecord]:
        """Return decrypted records, for a caller that has read them from elsewhere.

        Raises:
            StoreUnavailable: the keys cannot be read.
        """
        wanted = set()
        for raw in records:
            if is_marked(raw.data):
                wanted |= keys_in(raw.data)
            if self._to_compare and _ESCAPED in raw.metadata:
                wanted |= _keys_of_command(raw)
        if not wanted and not any(is_marked(raw.data) for raw in records):
            return list(records)
        keys = await self._keys.to_read(wanted) if wanted else {}
        return [self._decrypted(raw, keys) for raw in records]

    def _decrypted(self, raw: RawRecord, keys: Mapping[UUID, SubjectKey | None]) -> RawRecord:
        if is_marked(raw.data):
            opened = unseal(raw.data, raw.stream, raw.event_type, keys)
            data = Decrypted(_plain_if(opened) if self._to_compare else opened)
            data.as_written = raw.data
            raw = raw._replace(data=data)
        if self._to_compare and _ESCAPED in raw.metadata:
            raw = _with_command(raw, keys)
        return raw

    async def read_stream(
        self,
        stream: str,
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """See `Log.read_stream`."""
        reading = self.beneath.read_stream(stream, after=after, backwards=backwards, limit=limit)
        async with aclosing(self._together(reading, limit)) as records:
            async for raw in records:
                yield raw

    async def read_all(
        self,
        prefixes: Sequence[str],
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """See `Log.read_all`."""
        reading = self.beneath.read_all(prefixes, after=after, backwards=backwards, limit=limit)
        async with aclosing(self._together(reading, limit)) as records:
            async for raw in records:
                yield raw

    async def subscribe(
        self,
        prefixes: Sequence[str],
        after: int | None,
        *,
        gather: float = 0.0,
        event_types: Sequence[str] = (),
    ) -> AsyncGenerator[Batch, None]:
        """See `Log.subscribe`."""
        batches = self.beneath.subscribe(prefixes, after, gather=gather, event_types=event_types)
        async with aclosing(batches):
            async for batch in batches:
                yield batch._replace(records=await self.opened(batch.records))

    async def close(self) -> None:
        """See `Log.close`."""
        self._keys.close()
        await self.beneath.close()

    def _subjects_of(self, append: StreamAppend | JointAppend) -> set[str]:
        if isinstance(append, JointAppend):
            records = append.records
        else:
            records = [(append.stream, record) for record in append.records]
        return set().union(*(self._subjects(stream, record) for stream, record in records))

    def _subjects(self, stream: str, record: NewRecord) -> set[str]:
        tenant, found = self._tenant_of(stream), set()
        if is_marked(record.data):
            found |= subjects_in(record.data, stream, tenant)
        command = record.metadata.get(COMMAND, "").encode()
        if is_marked(command):
            found |= subjects_in(command, stream, tenant)
        return found

    def _sealed(self, append: A, keys: Mapping[str, SubjectKey]) -> A:
        if isinstance(append, JointAppend):
            together = [
                (stream, self._encrypted(stream, each, keys)) for stream, each in append.records
            ]
            return cast("A", append._replace(records=together))
        records = [self._encrypted(append.stream, each, keys) for each in append.records]
        return cast("A", append._replace(records=records))

    def _encrypted(
        self, stream: str, record: NewRecord, keys: Mapping[str, SubjectKey]
    ) -> NewRecord:
        tenant = self._tenant_of(stream)
        if is_marked(record.data):
            data = seal(record.data, stream, tenant, record.event_type, keys)
            record = record._replace(data=data)
        command = record.metadata.get(COMMAND, "").encode()
        if is_marked(command):
            sealed = seal(command, stream, tenant, record.event_type, keys, COMMAND).decode()
            record = record._replace(metadata={**record.metadata, COMMAND: sealed})
        return record

    async def _together(
        self, reading: AsyncGenerator[RawRecord, None], limit: int | None
    ) -> AsyncGenerator[RawRecord, None]:
        """Yield decrypted records; keys are read for ever more records together.

        It begins with few, because many readers stop once they have found what they look for.
        """
        size = min(limit or 1, AT_ONCE)
        held: list[RawRecord] = []
        async with aclosing(reading):
            async for raw in reading:
                held.append(raw)
                if len(held) >= size:
                    for each in await self.opened(held):
                        yield each
                    held, size = [], min(size * 2, AT_ONCE)
            for each in await self.opened(held):
                yield each


def _no_tenant(stream: str) -> str:
    return ""


def _tenant_of(stream: str) -> str:
    try:
        return tenant_of_stream(stream)
    except NoTenant:  # a scheduled command's stream, whose marked values name the tenant
        return ""


def _plain_if(opened: bytes) -> bytes:
    """Return it without marks; unchanged if a value was not decrypted, which is reported later."""
    try:
        return plain(opened)
    except ValueError:
        return opened


def _command_of(raw: RawRecord) -> tuple[dict[str, Any], bytes] | None:
    try:
        found = json.loads(raw.metadata)
        return found, found[COMMAND].encode()
    except (ValueError, KeyError, TypeError, AttributeError):  # data of another system
        return None


def _keys_of_command(raw: RawRecord) -> set[UUID]:
    found = _command_of(raw)
    return set() if found is None else keys_in(found[1])


def _with_command(raw: RawRecord, keys: Mapping[UUID, SubjectKey | None]) -> RawRecord:
    found = _command_of(raw)
    if found is None:
        return raw
    metadata, command = found
    opened = _plain_if(unseal(command, raw.stream, raw.event_type, keys, COMMAND)).decode()
    return raw._replace(metadata=dump({**metadata, COMMAND: opened}))
