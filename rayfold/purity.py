"""What folds and handlers may not ask: the clock and chance. They run again, elsewhere and later.

Two stores of a view would not agree, nor a process with what it had decided. Only what a function
calls by itself is seen, not what it calls in others.
"""

from __future__ import annotations

import ast
import inspect
import os
import random
import secrets
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache
from typing import Any

_DRAWN = (
    *(time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter),
    *(uuid.uuid1, uuid.uuid4, os.urandom),
    *(secrets.token_bytes, secrets.token_hex, secrets.token_urlsafe, secrets.randbelow),
)
_OF_A_CLOCK = ("now", "today", "utcnow")


def drawing(where: str, function: Callable[..., Any]) -> list[str]:
    """Return a sentence for what a function calls that gives another value each time."""
    names = {name for name, called in _calls_of(function) if _is_drawn(called)}
    return [
        f"{where} calls {name}, which gives another value each time: take it from what happened"
        for name in sorted(names)
    ]


@lru_cache(maxsize=1)  # what is asked of one function is asked in a row
def tree_of(function: Callable[..., Any]) -> ast.AST | None:
    """Return a function's source as a tree; None where there is no source."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return None


def _calls_of(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a function calls by a name of its module, as it is written there."""
    tree, known = tree_of(function), getattr(function, "__globals__", {})
    code = getattr(function, "__code__", None)
    local = (*code.co_varnames, *code.co_cellvars, *code.co_freevars) if code else ()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            first, *rest = name.split(".")
            called = None if first in local else known.get(first)
            try:
                for each in rest:
                    called = getattr(called, each, None)
            except Exception:  # of a module that loads what it is asked for, say
                called = None
            yield name, called


def _is_drawn(called: Any) -> bool:
    of = getattr(called, "__self__", None)
    if isinstance(of, random.Random):
        return True
    if isinstance(of, type) and issubclass(of, date):
        return called.__name__ in _OF_A_CLOCK
    return any(called is each for each in _DRAWN)
