"""Converts parameters of statements, and refuses decimals that Postgres would change."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg

from rayfold import Statement
from rayfold.columns import numeric


def parameters_of(statement: Statement) -> list[Any]:
    """Return the parameters to send.

    Raises:
        asyncpg.DataError: a decimal, perhaps in a list, cannot be stored in Postgres.
    """
    try:
        return [_sent(each) for each in statement.parameters]
    except ValueError as error:
        raise asyncpg.DataError(str(error)) from error


def _sent(value: Any) -> Any:
    if isinstance(value, Decimal):
        return numeric(value)
    if isinstance(value, list | tuple):
        return [numeric(each) if isinstance(each, Decimal) else each for each in value]
    return value
