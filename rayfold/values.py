"""Field types that domains share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, Field


class ServerSupplied:
    """Marks a command's field that the runtime fills in; a request that sends it is refused."""


def to_utc(value: datetime) -> datetime:
    """Return the same instant in UTC.

    Raises:
        ValueError: in UTC it is before the year 1 or after 9999.
    """
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC it is outside the years 1 to 9999") from error


UtcDatetime = Annotated[AwareDatetime, AfterValidator(to_utc)]
"""An instant: input must have an offset, and is converted to UTC."""

Now = Annotated[UtcDatetime, Field(default_factory=lambda: datetime.now(UTC)), ServerSupplied()]
"""When the command arrived. Decisions have no clock, so that they can be run again."""

NOW: Any = Field(default_factory=lambda: datetime.now(UTC))
"""The default in `at: Now = NOW`, which type checkers need in commands that a process sends."""

Cents = Annotated[int, Field(ge=0, le=10**12)]
"""An amount of money in whole cents, at most ten billion units of the currency."""
