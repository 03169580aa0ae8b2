"""Folds and handlers may not use the clock or random numbers: they run again, elsewhere and later.

Otherwise two stores of a view would differ, and a process would differ from what it had decided.
Only calls in the function itself are found, not those in functions that it calls.
"""

from __future__ import annotations

import dis
import inspect
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from types import CodeType
from typing import Any

_DRAWN = (
    *(time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter),
    *(uuid.uuid1, uuid.uuid4, os.urandom),
    *(secrets.token_bytes, secrets.token_hex, secrets.token_urlsafe, secrets.randbelow),
)
_OF_A_CLOCK = ("now", "today", "utcnow")


def drawing(where: str, function: Callable[..., Any] | None) -> list[str]:
    """Return a sentence for each call in a function that returns another value each time."""
    names = {name for name, value in named_by(function) if _is_drawn(value)}
    return [
        f"{where} calls {name}, which returns another value each time: take it from the event"
        for name in sorted(names)
    ]


def named_by(function: Callable[..., Any] | None) -> Iterator[tuple[str, Any]]:
    """Yield each global name that a function uses, as it is written there, with its value.

    Names come from the code object, including nested functions: unlike the source, it tells
    global names from local ones. A function written in C has no code object and yields nothing.
    """
    function = inspect.unwrap(function) if function else None
    module = getattr(function, "__globals__", {})
    codes = [getattr(function, "__code__", None)]
    while codes:
        if (code := codes.pop()) is None:
            continue
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        name, value = "", None
        for step in dis.get_instructions(code):
            if step.opname == "LOAD_GLOBAL":
                name, value = step.argval, module.get(step.argval)
            elif name and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                name, value = f"{name}.{step.argval}", _member(value, step.argval)
            else:
                name = ""
                continue
            yield name, value


def _member(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # of a module with a lazy `__getattr__`, say
        return None


def _is_drawn(called: Any) -> bool:
    of = _member(called, "__self__")
    if isinstance(of, random.Random):
        return True
    if isinstance(of, type) and issubclass(of, date):
        return called.__name__ in _OF_A_CLOCK
    return any(called is each for each in _DRAWN)
