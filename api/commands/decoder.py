"""Decodes an HTTP request into a command in its envelope."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

import msgspec
from pydantic import TypeAdapter, ValidationError

from actors.envelope import (
    Envelope,
    check_keys,
    fingerprint_of,
    instances_of,
    payload_of,
    stream_of,
)
from api.commands.long_bodies import LONG, validator_of_long
from api.commands.unknown_names import Check, check_of
from api.http import headers as read
from api.http.dates import has_dates, refuse_numbers
from api.http.headers import Headers
from api.http.problems import invalid, invalid_field, malformed
from rayfold import CommandDefinition, Registry
from rayfold.core_schemas import kinds_of

_WHOLE_FLOAT = re.compile(rb"[0-9](\.0|[eE])")
_EXACT = 2**53
"""Up to here, a float represents every integer exactly."""

_NAME = re.compile(rb'"\s*:')
"""The end of a name, or what looks like one within a text: at least as many as there are names."""


def _exact(number: str) -> float | str:
    """Return a number, or its text if a float would change it: a Decimal is then read from that."""
    found = float(number)
    try:
        return found if Decimal(repr(found)) == Decimal(number) else number
    except ArithmeticError:  # an exponent that is too large for a Decimal
        return number


_decode = msgspec.json.Decoder().decode
_decode_exactly = msgspec.json.Decoder(float_hook=_exact).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class CommandDecoder:
    """Reads one type of command."""

    def __init__(
        self,
        registry: Registry,
        command: CommandDefinition,
        path_fields: tuple[str, ...] = (),
        derived_id: str | None = None,
    ) -> None:
        self.command = command
        self._salt = f"{command.name} ".encode()
        model = command.model
        self._validate = model.__pydantic_validator__.validate_json
        self.aggregate = registry.owner[model]
        self._decision = registry.decisions.get(model)
        self._keys = registry.keyed_by.get(model, ())
        self._derived_id = derived_id
        self._path_fields = path_fields
        self._personal = frozenset(command.personal)
        self._has_dates = has_dates(model)
        kinds = kinds_of(model)
        self._decode = _decode_exactly if "decimal" in kinds and "float" not in kinds else _decode
        # Path parameters are text: fields of other types are read as pydantic reads text.
        self._numbers: dict[str, TypeAdapter[Any]] = {}
        for field in path_fields:
            annotation: Any = model.model_fields[field].annotation
            if annotation in (int, float, bool):
                self._numbers[field] = TypeAdapter(annotation)

    @cached_property
    def _validate_long(self) -> Callable[..., Any]:
        return validator_of_long(self.command.model).validate_json

    @cached_property
    def _unknown_name(self) -> Check:
        return check_of(self.command.model)

    def envelope(
        self,
        path: Mapping[str, Any],
        body: bytes,
        headers: Headers,
        principal: str,
        tenant: str = "",
    ) -> Envelope:
        """Return the envelope of a valid command, for an aggregate of `tenant`.

        Raises:
            Problem: 400 if the body or a header cannot be read, 422 for fields that do not fit.
        """
        fields = _object(body, self._decode)
        self._check_sources(fields)
        for name in self._path_fields:
            fields[name] = self._from_path(name, path[name])
        command_id = read.command_id(headers, tenant)
        if self._derived_id is not None and self._derived_id not in fields:
            fields[self._derived_id] = str(uuid5(UUID(command_id), self._derived_id))
        if len(body) >= LONG:
            self._check_names(fields)
        text = _encode(fields)
        try:
            validate = self._validate if len(text) < LONG else self._validate_long
            command = validate(text, strict=True)
        except ValidationError as error:
            raise invalid(error, f"{self.command.name}: see errors") from error
        if self._has_dates:
            refuse_numbers(command, fields)
        if self._keys:
            check_keys(self._keys, command)
        return Envelope(
            self.command.name,
            self._stream_of(command, tenant),
            payload_of(command, tenant),
            command_id,
            fingerprint_of(self._salt, self._telling(fields, text), tenant),
            read.expected_revision(headers),
            principal,
            read.text(headers, b"x-correlation-id"),
            read.text(headers, b"x-causation-id"),
            read.traceparent(headers),
            time.monotonic() + read.timeout(headers),
            tenant,
        )

    def _telling(self, fields: Mapping[str, Any], text: bytes) -> bytes:
        """Return the text by which commands are compared: all but personal data; see `Envelope`."""
        if not self._personal:
            return text
        return _encode({name: fields[name] for name in fields if name not in self._personal})

    def _stream_of(self, command: Any, tenant: str) -> str:
        if self._decision is not None:
            return instances_of(self._decision, command, tenant)[0].stream
        return stream_of(self.aggregate, command, tenant)

    def _check_sources(self, fields: Mapping[str, Any]) -> None:
        for name in self._path_fields:
            if name in fields:
                raise invalid_field(name, "is given by the path, not in the body")
        for name in self.command.server_supplied:
            if name in fields:
                raise invalid_field(name, "is supplied by the server")

    def _check_names(self, fields: Mapping[str, Any]) -> None:
        try:
            found = self._unknown_name(fields)
        except RecursionError as error:
            raise malformed("the body is nested too deeply") from error
        if found is not None:
            raise invalid_field(found, "is not a field, and neither are many other names here")

    def _from_path(self, name: str, value: str) -> Any:
        adapter = self._numbers.get(name)
        if adapter is None:
            return value
        try:
            return adapter.validate_strings(value)
        except ValidationError as error:
            raise invalid(error, f"{name} in the path is not valid") from error


def _object(body: bytes, decode: Callable[[bytes], Any]) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        fields = decode(body)
        if not isinstance(fields, dict):
            raise malformed("the body must be a JSON object")
        # With as many colons as fields, each ends a name, and no two names are equal.
        if body.count(b":") != len(fields):
            _refuse_repeated(body, fields)
        if b"\\u0000" in body:  # rare, and perhaps only an escaped backslash before "u0000"
            _refuse_nul(fields)
        if _WHOLE_FLOAT.search(body):
            return {name: _with_integers(each) for name, each in fields.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise malformed("the body is nested too deeply") from error
    return fields


def _refuse_repeated(body: bytes, fields: dict[str, Any]) -> None:
    """Refuse an object that has a name twice: some decoders keep the last value, some the first.

    It decodes the body again, which costs several times as much as the first decoding.
    """
    if len(_NAME.findall(body)) != _names(fields):
        json.loads(body, object_pairs_hook=_distinct)


def _names(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_names, value.values()))
    return sum(map(_names, value)) if isinstance(value, list) else 0


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise malformed(f"the body has {name[:80]!r} twice in one object")
        seen.add(name)


def _with_integers(value: Any) -> Any:
    """Return JSON with 2 in place of 2.0 or 2e0: JSON does not distinguish integers and floats."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, dict):
        return {name: _with_integers(each) for name, each in value.items()}
    return [_with_integers(each) for each in value] if isinstance(value, list) else value


def _refuse_nul(fields: dict[str, Any]) -> None:
    """Refuse text with a NUL: Postgres cannot store it, so the event could never be projected."""
    for name, value in fields.items():
        if "\x00" in name or _holds_nul(value):
            raise invalid_field(name.replace("\x00", "\\0"), "contains a NUL character")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(each) for key, each in value.items())
    return isinstance(value, list) and any(_holds_nul(each) for each in value)
