"""How `Message.replace` checks changed fields: as the constructor would.

Folds run millions of times, so a value whose exact class is known to fit is not checked further:
an `int` for an `int`, a member of the enumeration, a model of the class. All other values pass
through the field's own validator, whose cost for a list grows with its length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import SchemaValidator

if TYPE_CHECKING:
    from pydantic import BaseModel

_EXACT: dict[str, type] = {"int": int, "str": str, "bool": bool, "bytes": bytes, "none": type(None)}
"""Kinds of pydantic schemas that accept every value of that class, unless they have bounds."""

_UNBOUND = {"type", "ref", "metadata", "serialization"}

_BY_CLASS = ("enum", "model", "dataclass", "is-instance")


class FieldChecks:
    """The checks of one model's fields."""

    def __init__(self, model: type[BaseModel]) -> None:
        model.model_rebuild()
        schema: Any = model.__pydantic_core_schema__
        self._name = model.__qualname__
        self._definitions = {each["ref"]: each for each in schema.get("definitions", ())}
        fields, config = self._fields_of(schema)
        definitions = list(self._definitions.values())
        self._validator = SchemaValidator(
            {"type": "definitions", "schema": fields, "definitions": definitions}
            if definitions
            else fields,
            config,
        )
        self.exact = {
            name: frozenset(self._classes_of(field)) for name, field in fields["fields"].items()
        }
        """By field, the classes whose values fit without a check."""

    def validated(self, values: dict[str, Any], field: str, value: Any) -> Any:
        """Return the value as the field's validator returns it; `values` are all of the model's.

        Raises:
            ValueError: there is no such field, or it does not accept the value.
        """
        if field not in self.exact:
            raise ValueError(f"{self._name} has no field {field!r}")
        try:
            changed, *_ = self._validator.validate_assignment(values, field, value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(each) for each in (self._name, *first["loc"]))
            # Without the value: it may be personal data, and errors are logged, parked and sent.
            message = f"{where} cannot be this {type(first['input']).__name__}: {first['msg']}"
            raise ValueError(message) from error
        return changed[field]  # type: ignore[index]

    def _fields_of(self, schema: Any) -> tuple[Any, Any]:
        config: Any = None
        while schema["type"] != "model-fields":
            config = schema.get("config", config)
            if schema["type"] == "definition-ref":
                schema = self._definitions[schema["schema_ref"]]
            else:
                schema = schema["schema"]
        return schema, config

    def _classes_of(self, node: Any) -> set[type]:
        kind = node["type"]
        if kind in ("model-field", "default"):
            return self._classes_of(node["schema"])
        if kind == "nullable":
            return {type(None), *self._classes_of(node["schema"])}
        if kind == "json-or-python":
            return self._classes_of(node["python_schema"])
        if kind == "definition-ref":
            return self._classes_of(self._definitions[node["schema_ref"]])
        if kind == "union":
            choices = [each[0] if isinstance(each, tuple) else each for each in node["choices"]]
            return {each for choice in choices for each in self._classes_of(choice)}
        if kind in _BY_CLASS and isinstance(node["cls"], type):
            return {node["cls"]}
        if kind in _EXACT and node.keys() <= _UNBOUND:
            return {_EXACT[kind]}
        return set()


known: dict[type, FieldChecks] = {}


def checks_of(model: type[BaseModel]) -> FieldChecks:
    """Return the checks of a model; they are made once and cached."""
    found = known.get(model)
    if found is None:
        found = known[model] = FieldChecks(model)
    return found
