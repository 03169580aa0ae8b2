"""A row's document straight from its columns, without the view's model in between.

It takes a fifth of the time where rows are large. It only works where a field is written as its
type is: a serializer of its own, an alias, a computed field are known to the model alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import PlainSerializer, WrapSerializer
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from projections.postgres.row_codec import Column, RowCodec, aware
from rayfold import View

Write: TypeAlias = Callable[[Any], bytes]


def writer_of(codec: RowCodec) -> Write | None:
    """Return what makes a record of `select_list` the document that `decode` would lead to.

    None where that takes the view's model.
    """
    view = codec.view.model
    decorators = view.__pydantic_decorators__
    if (
        view.model_config != View.model_config
        or decorators.field_serializers
        or decorators.model_serializers
        or decorators.computed_fields
        or not all(_is_plain(info) for info in view.model_fields.values())
    ):
        return None
    fields = []
    for column in codec.columns:
        write = _writer_of_column(column)
        if write is None:
            return None
        fields.append((b'"%b":' % column.field.encode(), write))

    def write_row(record: Any) -> bytes:
        parts = [
            name + (b"null" if value is None else write(value))
            for (name, write), value in zip(fields, record, strict=False)  # others come after
        ]
        return b'{%b,"revision":%d}' % (b",".join(parts), record["_revision"])

    return write_row


def _is_plain(info: FieldInfo) -> bool:
    named = info.alias or info.serialization_alias
    written = any(isinstance(each, PlainSerializer | WrapSerializer) for each in info.metadata)
    return not (named or written or info.exclude or info.exclude_if)


def _writer_of_column(column: Column) -> Write | None:
    if column.scalar is None:
        return str.encode  # it is kept as the JSON that the field's type makes of it
    kind = column.scalar.kind
    if kind is UUID or kind is Decimal:
        return lambda value: b'"%b"' % str(value).encode()
    if kind is int:
        return lambda value: b"%d" % value
    if kind is datetime:
        return lambda value: to_json(aware(value))
    return to_json
