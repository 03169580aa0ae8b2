"""Short ways to make events and to wait."""

import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

from kurrentdbclient import NewEvent

T = TypeVar("T")


def event(kind: str = "Happened", data: bytes = b"{}", **values: Any) -> NewEvent:
    return NewEvent(type=kind, data=data, **values)


def events(count: int, kind: str = "Happened") -> list[NewEvent]:
    return [event(kind, b'{"n":%d}' % number) for number in range(count)]


def until(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """The condition's first true value; fails when it never comes."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not become true in time"
        pause.wait(0.02)


def take(source: Iterable[T], count: int) -> list[T]:
    return list(islice(source, count))
