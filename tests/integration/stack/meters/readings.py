"""Meters are read; whatever is read is true."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable
from urllib.parse import unquote

from rayfold import Aggregate, Command, Event, Message, Route

LONG = "".join(random.Random(1).choices(string.ascii_letters, k=6000))
"""More than an index row holds, also compressed. No command may have it: its events may."""


class ReadMeter(Command, name="read-meter"):
    """It stands at so much; `label` is what is written on it, percent-encoded, or `LONG`'s name."""

    meter_id: str
    units: int
    label: str = "a"


class MeterRead(Event, name="MeterRead"):
    """It stood at so much."""

    meter_id: str
    units: int
    label: str


class MeterState(Message):
    """Nothing is needed to decide."""


class Meter(
    Aggregate[MeterState, ReadMeter, MeterRead],
    category="meter",
    id_field="meter_id",
    initial=MeterState(),
):
    """Says yes to every reading."""

    @staticmethod
    def decide(state: MeterState, command: ReadMeter) -> Iterable[MeterRead]:
        label = LONG if command.label == "LONG" else unquote(command.label)
        return [MeterRead(**{**command.model_dump(), "label": label})]

    @staticmethod
    def evolve(state: MeterState, event: MeterRead) -> MeterState:
        return state


ROUTES = [Route("POST", "/meters/{meter_id}/readings", ReadMeter)]
