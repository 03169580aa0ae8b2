"""Converts parameters of statements, and refuses decimals that Postgres would change."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg

from rayfold import Statement
from rayfold.columns import numeric


def parameters_of(statement: Statement) -> list[Any]:
    """Return what is sent.

    Raises:
        asyncpg.DataError: a decimal, or one of a list, is none that Postgres keeps.
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
