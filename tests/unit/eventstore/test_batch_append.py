"""Unfinished appends on a call of the embedded store are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.rpc import batch_append
from eventstore.embedded.rpc.batch_append import BatchAppendHandler
from eventstore.embedded.storage.store import Store


class Call:
    """A client that sends these chunks, and keeps the answers."""

    def __init__(self, chunks: Iterator[streams_pb2.BatchAppendReq]) -> None:
        self.answers: dict[str, str] = {}
        self._chunks = chunks

    async def read(self) -> bytes | None:
        """Return the next chunk."""
        chunk = next(self._chunks, None)
        return None if chunk is None else chunk.SerializeToString()

    async def write(self, data: bytes) -> None:
        """Keep an answer: of which append, and whether it was done."""
        answer = streams_pb2.BatchAppendResp.FromString(data)
        self.answers[answer.correlation_id.string] = str(answer.WhichOneof("result"))


def chunk(key: str, *, begins: bool = True, ends: bool = False) -> streams_pb2.BatchAppendReq:
    """Return a chunk of 1,000 bytes."""
    request: Any = streams_pb2.BatchAppendReq(is_final=ends)
    request.correlation_id.string = key
    if begins:
        request.options.stream_identifier.stream_name = f"order-{key}".encode()
        request.options.any.SetInParent()
    message = request.proposed_messages.add(data=b"x" * 1000)
    message.id.string = str(uuid4())
    message.metadata.update({"type": "Placed", "content-type": "application/octet-stream"})
    return request  # type: ignore[no-any-return]


async def test_open_appends_of_a_call_are_bounded_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_append, "_OPEN_BYTES", 3500)
    store = Store(tmp_path)
    await store.start()
    begun = [f"{number}" for number in range(5)]
    call = Call(
        iter(
            [
                *map(chunk, begun),  # the fourth is too much, and so is the fifth
                chunk("0"),  # begins anew: what it had counts no more
                *(chunk(each, begins=False, ends=True) for each in begun),
                chunk("after", ends=True),
            ]
        )
    )
    try:
        await BatchAppendHandler(store)(call)  # type: ignore[arg-type]
    finally:
        await store.stop()
    refused = {key for key, answer in call.answers.items() if answer == "error"}
    assert refused == {"3", "4"}
    assert call.answers.keys() == {*begun, "after"}
