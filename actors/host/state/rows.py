"""A state as rows of its tables, the difference of two states, and the lossless way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from rayfold.state_layout import Items, Layout, Nested, Part, Place

Key = tuple[int, ...]
"""The key of an item: its index in each list around it."""

Values = list[Any]
"""The values of a row, in the order of its table's columns."""


class Difference(NamedTuple):
    """List rows to write and to remove; the root row is always written."""

    root: Values
    written: dict[str, list[tuple[Key, Values]]]
    removed: dict[str, list[Key]]


class Unstorable(ValueError):
    """A state that its tables cannot hold; the message says why."""


def difference(layout: Layout, before: Any, after: Any) -> Difference:
    """Return the changes from the rows of `before` to those of `after`; None before: no rows.

    Comparing items that are the same object costs almost nothing.

    Raises:
        Unstorable: a text or a number cannot be stored in Postgres.
    """
    found = Difference([], {}, {})
    _values(layout.parts, after, found.root)
    _compare(layout.parts, before, after, (), found)
    return found


def _values(parts: Sequence[Part], model: Any, values: Values) -> None:
    """Append the values of a model's columns; all are None if there is no model."""
    for part in parts:
        if isinstance(part, Place):
            values.append(None if model is None else _to_sql(part, getattr(model, part.path[-1])))
        elif isinstance(part, Nested):
            inner = getattr(model, part.field) if model is not None else None
            if part.marker is not None:
                values.append(inner is not None if model is not None else None)
            _values(part.parts, inner, values)


def _to_sql(place: Place, value: Any) -> Any:
    column = place.column
    if column.adapter is not None:
        value = column.adapter.encode(value)
        if "\\u0000" in value:
            raise Unstorable(f"{place.name} has a character that Postgres cannot keep: U+0000")
    elif column.to_sql is not None and value is not None:
        try:
            value = column.to_sql(value)
        except ValueError as error:
            raise Unstorable(f"{place.name}: {error}") from error
    if isinstance(value, str):
        if "\0" in value:
            raise Unstorable(f"{place.name} has a character that Postgres cannot keep: U+0000")
        if type(value) is not str:
            value = str.__str__(value)
    return value


def _compare(parts: Sequence[Part], before: Any, after: Any, key: Key, found: Difference) -> None:
    if before is after:
        return
    for part in parts:
        if isinstance(part, Nested):
            _compare(part.parts, _field(before, part.field), _field(after, part.field), key, found)
        elif isinstance(part, Items):
            old, new = _field(before, part.field), _field(after, part.field)
            if old is not new:
                _compare_items(part, old, new, key, found)


def _field(model: Any, name: str) -> Any:
    return None if model is None else getattr(model, name)


def _compare_items(part: Items, old: Any, new: Any, key: Key, found: Difference) -> None:
    olds = [] if old is None else part.in_order(old)
    news = [] if new is None else part.in_order(new)
    written = found.written.setdefault(part.table.name, [])
    for number, item in enumerate(news):
        known = number < len(olds)
        if known and (olds[number] is item or olds[number] == item):
            continue
        values: Values = []
        inner = item
        if part.key is not None:
            name, inner = item
            values.append(_to_sql(part.key, name))
        if part.scalar is not None:
            values.append(_to_sql(part.scalar, inner))
        else:
            _values(part.parts, inner, values)
            was = olds[number] if known else None
            was = was[1] if was is not None and part.key is not None else was
            _compare(part.parts, was, inner, (*key, number), found)
        written.append(((*key, number), values))
    removed = found.removed.setdefault(part.table.name, [])
    for number in range(len(news), len(olds)):
        removed.append((*key, number))
        gone = olds[number][1] if part.key is not None else olds[number]
        if part.scalar is None:
            _compare(part.parts, gone, None, (*key, number), found)


Rows = Mapping[str, Mapping[Key, list[tuple[Key, Values]]]]
"""By table, then by the key of the list that contains them: its items in order."""


def grouped(rows: Sequence[tuple[Key, Values]]) -> dict[Key, list[tuple[Key, Values]]]:
    """Return a table's rows, given in order, by the key of the list that contains them."""
    found: dict[Key, list[tuple[Key, Values]]] = {}
    for key, values in rows:
        found.setdefault(key[:-1], []).append((key, values))
    return found


def state_of(layout: Layout, root: Sequence[Any], rows: Rows) -> Any:
    """Return the state that these rows hold.

    Raises:
        ValidationError: they do not hold a valid state.
    """
    fields = _read(layout.parts, iter(root), (), rows)
    return layout.model.__pydantic_validator__.validate_python(fields)


def _read(
    parts: Sequence[Part], values: Iterator[Any], key: Key, rows: Rows, *, there: bool = True
) -> dict[str, Any]:
    """Return a model's fields from its columns' next values; `there`: whether it is present."""
    fields: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Place):
            value = next(values)
            fields[part.path[-1]] = _from_sql(part, value) if there else None
        elif isinstance(part, Nested):
            marked = part.marker is None or bool(next(values))
            inner_there = there and marked
            inner = _read(part.parts, values, key, rows, there=inner_there)
            fields[part.field] = inner if inner_there else None
        elif there:
            fields[part.field] = part.build(
                [
                    _item(part, iter(held), at, rows)
                    for at, held in rows.get(part.table.name, {}).get(key, ())
                ]
            )
    return fields


def _item(part: Items, values: Iterator[Any], key: Key, rows: Rows) -> Any:
    name = _from_sql(part.key, next(values)) if part.key is not None else None
    item: Any
    if part.scalar is not None:
        item = _from_sql(part.scalar, next(values))
    else:
        assert part.model is not None
        fields = _read(part.parts, values, key, rows)
        item = part.model.__pydantic_validator__.validate_python(fields)
    return item if part.key is None else (name, item)


def _from_sql(place: Place, value: Any) -> Any:
    if value is None:
        return None
    column = place.column
    if column.adapter is not None:
        return column.adapter.decode(value)
    if column.from_sql is None:
        return value
    found = column.from_sql(value)
    if column.from_sql is int and found != value:
        raise ValueError(f"{place.name} is {value}, which is not an integer")
    return found


def check(layout: Layout, state: Any) -> None:
    """Check that a state would read back unchanged, which one that bypassed validation may not.

    Nested models that were checked before are not checked again.

    Raises:
        Unstorable: it would not read back unchanged.
    """
    fields = layout.model.model_fields
    given = {name: value for name, value in state.__dict__.items() if name in fields}
    try:
        back = layout.model.__pydantic_validator__.validate_python(given)
    except ValueError as error:
        raise Unstorable(f"the state does not fit its model: {told(error)}") from error
    if back != state:
        raise Unstorable("the state would not be the same when read back from its tables")


def told(error: ValueError) -> str:
    """Return what does not fit a model, and where, without the value."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
