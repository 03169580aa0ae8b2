"""An event as it was recorded: the event, its place in the log, and what caused it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rayfold.messages import Event


class RecordedEvent(NamedTuple):
    """`revision` is the zero-based place in `stream`; `position` the place in `$all`."""

    event: Event
    stream: str
    revision: int
    position: int
    metadata: Mapping[str, str]
