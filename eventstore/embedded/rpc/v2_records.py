"""v2 records: validation, and the form in which v1 readers see them."""

import re
import unicodedata
import uuid
from functools import lru_cache

import msgspec
from google.protobuf import struct_pb2
from kurrentdbclient.protos.v2.streams import streams_pb2

from eventstore.embedded.protocol.constants import MAX_RECORD_SIZE
from eventstore.embedded.rpc.requests import parse_uuid
from eventstore.embedded.rpc.v2_errors import bad_request, record_too_large
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.names import is_valid

_FORMATS = {1: "Json", 2: "Protobuf", 3: "Avro", 4: "Bytes"}
_NAME = re.compile(r"[\w.$:-]+")
_ZERO = bytes(16)


def valid_stream(stream: str) -> str:
    """Return the name, if records can be written to it."""
    if not is_valid(stream):
        raise bad_request("stream", "must be a non-empty stream name other than '$$'")
    return stream


def proposed_record(record: streams_pb2.AppendRecord, stream: str) -> tuple[Proposed, int]:
    """Return the event to write and its size as the server counts it; refuse invalid records."""
    record_id = _record_id(record)
    schema = record.schema
    form = _FORMATS.get(schema.format)
    if form is None:
        raise bad_request("schema.format", "must be one of JSON, PROTOBUF, AVRO, BYTES")
    name = schema.name
    if not _valid_name(name):
        raise bad_request("schema.name", "must consist of letters, digits and _ . $ : - only")
    values: dict[str, object] = {}
    properties_size = 0
    properties = record.properties
    for key in properties:  # twice as fast as `items()`
        if not key:
            raise bad_request("properties", "a key must not be empty")
        value = properties[key]
        text = value.string_value
        if text and len(text) < 64 and text.isascii():  # nearly all are
            values[key] = text
            properties_size += len(key) + len(text) + 8
        else:
            values[key] = _plain(value)
            properties_size += len(key) + value.ByteSize() + 6
    values["$schema.name"] = name
    values["$schema.format"] = form
    if schema.HasField("id"):
        values["$schema.id"] = schema.id
    data = record.data
    size = len(data) + properties_size + len(name.encode())
    if size > MAX_RECORD_SIZE:
        raise record_too_large(stream, str(uuid.UUID(bytes=record_id)), size)
    metadata = msgspec.json.encode(values)
    return Proposed(record_id, name, form == "Json", data, metadata), size


@lru_cache(maxsize=4096)
def _valid_name(name: str) -> bool:
    """Return whether a type is valid; types are few and come again and again."""
    return _NAME.fullmatch(name) is not None and unicodedata.is_normalized("NFC", name)


def _record_id(record: streams_pb2.AppendRecord) -> bytes:
    if not record.HasField("record_id"):
        return uuid.uuid4().bytes
    value = parse_uuid(record.record_id) or _ZERO
    if value == _ZERO:
        raise bad_request("record_id", "must be a non-zero UUID")
    return value


def _plain(value: struct_pb2.Value) -> object:
    """Return a property as JSON knows it."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "null_value":
        return None
    if kind == "struct_value":
        return {key: _plain(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    raise bad_request("properties", "every value must have a kind")
