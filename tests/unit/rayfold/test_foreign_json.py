"""Foreign JSON: invalid or too deep JSON harms no reader."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest

from eventstore.correlation import Origin, origin_of_event
from eventstore.deletions import deleted_stream
from eventstore.records import Metadata, RawRecord, recorded
from rayfold import Registry
from rayfold.foreign_json import DEEPEST, UNREADABLE, readable
from rayfold.runtime.tracing import traced_in

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NO_UTF8 = b'{"traceparent":"\xff\xfe","$correlationId":"\xff","schemaVersion":"\xff"}'
OTHERS = [DEEP, NO_UTF8, b"", b"\x00\x01", b"[1]", b"3"]


def record(data: bytes, metadata: bytes, event_type: str = "LineRemoved") -> RawRecord:
    return RawRecord(event_type, data, metadata, "order-1", 0, 1, 0)


@pytest.mark.parametrize("text", OTHERS)
def test_decoding_raises_only_the_documented_error(text: bytes) -> None:
    for decode in (msgspec.json.decode, json.loads):
        with suppress(UNREADABLE):
            decode(text)


def test_json_that_is_shown_has_a_bounded_depth() -> None:
    nested = b"[" * DEEPEST + b"]" * DEEPEST
    assert readable(nested) == json.loads(nested)
    full = b"[" * DEEPEST + b"1" + b"]" * DEEPEST
    assert readable(full) == json.loads(full)
    assert readable(b"[" + nested + b"]") == f"[{nested.decode()}]"
    assert readable(DEEP) == DEEP.decode()
    assert readable(b"\xff") == "\ufffd"
    assert readable('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("metadata", OTHERS)
def test_foreign_metadata_is_ignored(metadata: bytes, registry: Registry) -> None:
    raw = record(b'{"order_id":"6b1f4d1c-6a3b-4c8e-9d5e-0f1a2b3c4d5e","sku":"tea"}', metadata)
    assert Metadata(metadata).get("traceparent") is None
    assert origin_of_event(raw) == Origin()
    [event] = recorded(registry, raw)
    assert event.event.__class__.__name__ == "LineRemoved"
    assert list(traced_in([metadata])) == []


@pytest.mark.parametrize("data", OTHERS)
def test_unreadable_stream_metadata_deletes_nothing(data: bytes) -> None:
    assert deleted_stream(record(data, b"", "$metadata")._replace(stream="$$order-1")) is None
