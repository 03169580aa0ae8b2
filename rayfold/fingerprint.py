"""What functions mean, as text: changes with their code, and not with its layout.

A table that a fold has filled is stale when the fold changes, whether or not anybody
thought of raising a version. Comments, docstrings, annotations and line breaks do not
count. Functions and constants of the same package that a function names are followed;
methods of values that it is given are not, since nobody knows which they will be: for
those there is `version=…` (a view's) and `fold_version=…` (an aggregate's).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any


def fingerprint_of(*functions: Callable[..., Any] | None) -> str:
    """Return a short text that is another one when one of the functions means another thing."""
    seen: set[int] = set()
    parts = [part for function in functions for part in _meaning(function, seen)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=9).hexdigest()


def _meaning(value: Any, seen: set[int]) -> Iterator[str]:
    value = getattr(value, "__func__", value)
    if not isinstance(value, FunctionType):
        yield repr(value) if value is None or isinstance(value, type) else type(value).__name__
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    yield _source(value) or _bytecode(value.__code__)
    yield repr(value.__defaults__) if _is_plain(value.__defaults__) else ""
    package = value.__module__.partition(".")[0]
    for name in sorted(_names(value.__code__)):
        if name not in value.__globals__:
            continue
        named = value.__globals__[name]
        if isinstance(named, FunctionType) and named.__module__.partition(".")[0] == package:
            yield from _meaning(named, seen)
        elif _is_plain(named):
            yield f"{name}={named!r}"
    for cell in value.__closure__ or ():
        if isinstance(cell.cell_contents, FunctionType):
            yield from _meaning(cell.cell_contents, seen)
        elif _is_plain(cell.cell_contents):
            yield repr(cell.cell_contents)


def _source(function: FunctionType) -> str | None:
    """The function's statements, written anew; None for a lambda or without a file."""
    if function.__name__ == "<lambda>":
        return None
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError, ValueError):
        return None
    if not isinstance(tree, ast.FunctionDef):
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
    # What a set looks like is another thing in each process.
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            names |= _names(each)
    return names


def _is_plain(value: Any) -> bool:
    """Whether the value's `repr` says what it is, in every process alike."""
    if isinstance(value, dict):
        return all(_is_plain(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bytes | int | float | type)
