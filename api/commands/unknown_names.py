"""Unknown names in a long body: if one object has very many, only one of them is reported.

pydantic reports each of them without a limit: a megabyte of them blocked a gateway for half a
second. So they are counted before it validates, along the command's schema, skipping parts of the
schema without models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from rayfold.core_schemas import definitions_of, fields_within

MOST = 100
"""The most unknown names in one object that pydantic may report one by one."""

Check = Callable[[Any], str | None]
"""Returns an unknown name if an object in decoded JSON has too many of them, else None."""


def check_of(model: type[BaseModel]) -> Check:
    """Return the check of a model."""
    schema = model.__pydantic_core_schema__
    return _Checks(definitions_of(schema)).of(schema) or _nothing


def _nothing(_: Any) -> None:
    """Find nothing."""


class _Checks:
    """Makes checks from pydantic's schemas; None for a schema without models."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._of_refs: dict[str, Check] = {}

    def of(self, node: Mapping[str, Any]) -> Check | None:
        match node:
            case {"type": "definition-ref", "schema_ref": ref}:
                return self._of_ref(ref)
            case {"type": "function-before" | "function-wrap"}:
                return None  # the author's function may take names that no field has
            case {"type": "model", "schema": inner, "config": {"extra_fields_behavior": "forbid"}}:
                if self._is_read_before(inner):
                    return None
                return self._of_model(fields_within(inner, self._definitions))
            case {"type": "union", "choices": choices}:
                return self._of_union(
                    [each[0] if type(each) is tuple else each for each in choices]
                )
            case {"type": "tagged-union", "discriminator": str(tag), "choices": choices}:
                return self._of_tagged(tag, choices)
            case {"type": "dict", "values_schema": inner}:
                return self._of_each(inner, dict, dict.values)
            case {"items_schema": [*inner]}:
                return self._of_tuple(inner)
            case {"items_schema": inner}:
                return self._of_each(inner, list, iter)
            case {"json_schema": inner} | {"strict_schema": inner} | {"schema": inner}:
                return self.of(inner)
            case _:
                return None

    def _is_read_before(self, node: Mapping[str, Any]) -> bool:
        """Return whether a function of the author's reads a model's object before its fields do."""
        while "fields" not in node:
            if node["type"] in ("function-before", "function-wrap"):
                return True
            is_ref = node["type"] == "definition-ref"
            node = self._definitions[node["schema_ref"]] if is_ref else node["schema"]
        return False

    def _of_ref(self, ref: str) -> Check:
        if ref not in self._of_refs:
            self._of_refs[ref] = lambda value: self._of_refs[ref](value)  # it may be recursive
            self._of_refs[ref] = self.of(self._definitions[ref]) or _nothing
        return self._of_refs[ref]

    def _of_each(
        self, inner: Any, kind: type, each: Callable[[Any], Iterable[Any]]
    ) -> Check | None:
        check = self.of(inner)
        if check is None:
            return None
        return lambda value: _first(check, each(value)) if type(value) is kind else None

    def _of_model(self, fields: list[tuple[str, Any]]) -> Check:
        names = {name for name, _ in fields}
        most = MOST + len(names)  # each may have an alias
        found = ((name, self.of(field["schema"])) for name, field in fields)
        within = [(name, check) for name, check in found if check is not None]

        def check(value: Any) -> str | None:
            if type(value) is not dict:
                return None
            if len(value) > most and len(others := value.keys() - names) > most:
                return str(max(others))  # never the empty name, which would count as none
            return next(
                (told for name, each in within if name in value and (told := each(value[name]))),
                None,
            )

        return check

    def _of_union(self, choices: list[Any]) -> Check | None:
        checks = [self.of(each) for each in choices]
        whole = [each for each in checks if each is not None]
        if len(whole) < len(checks):
            return None  # the member without models may be meant

        def check(value: Any) -> str | None:
            found = [each(value) for each in whole]
            return None if None in found else found[0]

        return check

    def _of_tagged(self, tag: str, choices: Mapping[str, Any]) -> Check:
        checks = {name: self.of(each) or _nothing for name, each in choices.items()}

        def check(value: Any) -> str | None:
            if type(value) is not dict or type(name := value.get(tag)) is not str:
                return None
            return checks.get(name, _nothing)(value)

        return check

    def _of_tuple(self, schemas: list[Any]) -> Check | None:
        checks = [self.of(each) or _nothing for each in schemas]
        if all(each is _nothing for each in checks):
            return None

        def check(value: Any) -> str | None:
            if type(value) is not list:
                return None
            last = checks[-1]  # of as many as there are
            after = _first(last, value[len(checks) :])
            return after or next(
                (t for c, v in zip(checks, value, strict=False) if (t := c(v))), None
            )

        return check


def _first(check: Check, values: Iterable[Any]) -> str | None:
    return next(filter(None, map(check, values)), None)
