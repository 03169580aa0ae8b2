"""Three views that break, each in its way, and two beside them that never do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rayfold import Query, Route, View, on
from tests.integration.stack.meters.readings import MeterRead

UNLUCKY = 13


class Latest(View, name="latest", key="meter_id"):
    """Its columns take 64 bits and no NUL; events know no such bounds, `model_copy` checks none."""

    meter_id: str
    units: Annotated[int, Field(ge=-(2**62), le=2**62)] = 0
    label: str = ""

    @staticmethod
    @on(MeterRead)
    def read(latest: Latest, event: MeterRead) -> Latest:
        return latest.model_copy(update={"units": event.units, "label": event.label})


class Sums(View, name="sums", key="meter_id"):
    """Its code breaks on an unlucky number until the file is there, as if it were deployed."""

    meter_id: str
    units: int = 0

    @staticmethod
    @on(MeterRead)
    def read(sums: Sums, event: MeterRead) -> Sums:
        if event.units == UNLUCKY and not Path(os.environ["METERS_MENDED"]).exists():
            raise ValueError(f"{UNLUCKY} is unlucky")
        return sums.replace(units=sums.units + event.units)


class Labels(View, name="labels", key="label", stores=("postgres",), delivery="competing"):
    """How often a label was seen: a label may be one that Postgres keeps no row under."""

    label: str
    times: int = 0

    @staticmethod
    @on(MeterRead)
    def read(labels: Labels, event: MeterRead) -> Labels:
        return labels.replace(times=labels.times + 1)


class Counts(View, name="counts", key="meter_id"):
    """How often a meter was read."""

    meter_id: str
    times: int = 0

    @staticmethod
    @on(MeterRead)
    def read(counts: Counts, event: MeterRead) -> Counts:
        return counts.replace(times=counts.times + 1)


class Tallies(View, name="tallies", key="meter_id", stores=("postgres",), delivery="competing"):
    """The same, by competing consumers."""

    meter_id: str
    times: int = 0

    @staticmethod
    @on(MeterRead)
    def read(tallies: Tallies, event: MeterRead) -> Tallies:
        return tallies.replace(times=tallies.times + 1)


class GetLatest(Query, name="get-latest", view=Latest):
    """What a meter showed last."""

    meter_id: str


class GetSum(Query, name="get-sum", view=Sums):
    """All that a meter showed."""

    meter_id: str


class GetLabel(Query, name="get-label", view=Labels):
    """How often a label was seen."""

    label: str


class GetCount(Query, name="get-count", view=Counts):
    """How often a meter was read."""

    meter_id: str


class GetTally(Query, name="get-tally", view=Tallies):
    """How often a meter was read."""

    meter_id: str


ROUTES = [
    Route("GET", "/latest/{meter_id}", GetLatest),
    Route("GET", "/sums/{meter_id}", GetSum),
    Route("GET", "/labels/{label}", GetLabel),
    Route("GET", "/counts/{meter_id}", GetCount),
    Route("GET", "/tallies/{meter_id}", GetTally),
]
