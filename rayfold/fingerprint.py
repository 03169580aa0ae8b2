"""Fingerprints of functions: they change with the code, and not with its layout.

A table that a fold has filled is stale when the fold changes, even if the author did not raise
a version. Comments, docstrings, annotations and line breaks do not count. Whatever a function
names in its own package is followed: functions, constants, modules, and classes with all their
methods. Other packages are not followed, nor is what depends on a run-time value: for those there
is `version=…` of a view and `fold_version=…` of an aggregate.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import CodeType, FunctionType, ModuleType
from typing import Any, get_args
from uuid import UUID

from pydantic import BaseModel

_PLAIN = (str, bytes, int, float, complex, Decimal, UUID, date, time, timedelta, range, re.Pattern)
"""Types whose `repr` identifies the value and is the same in every process."""


def fingerprint_of(*values: Any) -> str:
    """Return a short text that changes when the code of one of these functions or classes does.

    A value of None is skipped.
    """
    seen: set[int] = set()
    parts = [part for value in values for part in _meaning(value, seen)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=9).hexdigest()


def fingerprint_of_model(model: type[BaseModel]) -> str:
    """Return a short text that changes when the fields or defaults of the model do.

    It also changes with the code of the model's classes in the same package: a fold may call it.
    """
    schema = json.dumps(_settled(model.model_json_schema(mode="serialization")), sort_keys=True)
    fields = model.model_fields.values()
    code = fingerprint_of(
        model,
        *(info.default_factory for info in fields),
        *(each for info in fields for each in _classes_in(info.annotation, model.__module__)),
    )
    return hashlib.blake2b(f"{schema} {code}".encode(), digest_size=9).hexdigest()


def declared(value: Any) -> str:
    """Return as text what a class or a route was declared with: a definition or a keyword's value.

    Classes are given by name and functions by their fingerprint. Other values that have no fixed
    text are given by their type alone.
    """
    if is_dataclass(value) and not isinstance(value, type):
        pairs = [(field.name, getattr(value, field.name)) for field in fields(value)]
        return repr([(name, declared(each)) for name, each in pairs])
    if isinstance(value, Mapping):
        return repr([(declared(key), declared(each)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        return repr([declared(each) for each in value])
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, FunctionType):
        return fingerprint_of(value)
    return _said(value) or type(value).__qualname__


def _settled(node: Any) -> Any:
    """Return the schema with default sets sorted: their order differs in each process."""
    if isinstance(node, dict):
        return {
            name: sorted(each, key=repr)
            if name == "default" and isinstance(each, list)
            else _settled(each)
            for name, each in node.items()
        }
    return [_settled(each) for each in node] if isinstance(node, list) else node


def _classes_in(annotation: Any, module: str) -> Iterator[type]:
    """Yield the classes in an annotation that belong to the same package as the module."""
    if isinstance(annotation, type) and _package_of(annotation.__module__) == _package_of(module):
        yield annotation
    for each in get_args(annotation):
        yield from _classes_in(each, module)


def _meaning(value: Any, seen: set[int]) -> Iterator[str]:
    value = getattr(value, "__func__", value)
    if id(value) in seen:
        return
    if isinstance(value, FunctionType):
        seen.add(id(value))
        yield from _meaning_of_function(value, seen)
    elif isinstance(value, type) and value.__module__ != "builtins":
        seen.add(id(value))
        yield from _meaning_of_class(value, seen)
    else:
        yield _said(value) or type(value).__name__


def _meaning_of_function(function: FunctionType, seen: set[int]) -> Iterator[str]:
    yield _source(function) or _bytecode(function.__code__)
    yield _said([function.__defaults__, function.__kwdefaults__]) or ""
    package = _package_of(function.__module__)
    names = sorted(_names(function.__code__))
    for name in names:
        if name in function.__globals__:
            yield from _meaning_of_name(name, function.__globals__[name], names, package, seen)
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not set yet: the class refers to itself
            continue
        if isinstance(held, FunctionType):
            yield from _meaning(held, seen)
        else:
            yield _said(held) or ""


def _meaning_of_name(
    name: str, value: Any, names: list[str], package: str, seen: set[int]
) -> Iterator[str]:
    if not isinstance(value, FunctionType):
        value = getattr(value, "__wrapped__", value)  # by functools.cache
    if isinstance(value, ModuleType):
        if _package_of(value.__name__) == package and id(value) not in seen:
            for inner in names:
                if inner in vars(value) and not isinstance(vars(value)[inner], ModuleType):
                    yield from _meaning_of_name(inner, vars(value)[inner], names, package, seen)
    elif isinstance(value, FunctionType | type):
        if _package_of(value.__module__) == package:
            yield from _meaning(value, seen)
    elif (said := _said(value)) is not None:
        yield f"{name}={said}"


def _meaning_of_class(cls: type, seen: set[int]) -> Iterator[str]:
    if issubclass(cls, Enum):
        yield _said([(each.name, each.value) for each in cls]) or ""
    package = _package_of(cls.__module__)
    for base in cls.__mro__:
        if _package_of(base.__module__) != package:
            continue
        for name, member in sorted(vars(base).items()):
            member = getattr(member, "fget", None) or getattr(member, "func", member)
            member = getattr(member, "__func__", member)
            if isinstance(member, FunctionType) and member.__module__ == base.__module__:
                yield name
                yield from _meaning(member, seen)


def _package_of(module: str) -> str:
    return module.partition(".")[0]


def _source(function: FunctionType) -> str | None:
    """Return the function's statements in a normal form; None for a lambda or without a file."""
    if function.__name__ == "<lambda>":
        return None
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError, ValueError):
        return None
    if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    body = tree.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    arguments = [each.arg for each in ast.walk(tree.args) if isinstance(each, ast.arg)]
    return "\n".join([" ".join(arguments), *map(ast.unparse, body)])


def _bytecode(code: CodeType) -> str:
    return f"{code.co_code.hex()} {code.co_names} {[_constant(each) for each in code.co_consts]}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _bytecode(value)
    if isinstance(value, tuple):
        return repr([_constant(each) for each in value])
    # Sorted: the iteration order of a set differs in each process.
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            names |= _names(each)
    return names


def _said(value: Any) -> str | None:
    """Return a text for a constant, the same in every process; None if it has none."""
    if isinstance(value, dict):
        pairs = [(_said(key), _said(each)) for key, each in value.items()]
        return None if any(None in pair for pair in pairs) else repr(pairs)
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_said(each) for each in value]
        if None in parts:
            return None
        in_order = parts if isinstance(value, list | tuple) else sorted(map(str, parts))
        return f"{type(value).__name__}{in_order}"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}={_said(value.value)}"
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}{_said(value.__dict__)}"
    if value is None or isinstance(value, (*_PLAIN, type)):
        return repr(value)
    return None
