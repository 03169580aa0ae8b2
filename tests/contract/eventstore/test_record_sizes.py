"""The size of a record is that of its parts, whichever way its properties are read."""

from __future__ import annotations

import json
import uuid

import pytest
from google.protobuf import struct_pb2
from kurrentdbclient.protos.v2.streams import streams_pb2

from eventstore.embedded.rpc.v2_records import proposed_record

TEXTS = ["", "a", "x" * 63, "x" * 64, "x" * 127, "x" * 128, "x" * 20_000, "é", "日本語", "\x00"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_property_counts_as_it_travels(text: str) -> None:
    record = streams_pb2.AppendRecord(record_id=str(uuid.uuid4()), data=b"{}", stream="s")
    record.schema.format = streams_pb2.SCHEMA_FORMAT_JSON
    record.schema.name = "Placed"
    record.properties["key"].string_value = text
    event, size = proposed_record(record, "s")
    value = struct_pb2.Value(string_value=text)
    assert size == len(b"{}") + len("Placed") + len("key") + value.ByteSize() + 6
    assert json.loads(event.metadata)["key"] == text
