"""A controller that owns the stack, before it makes anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import asyncpg
import pytest

from deploy.errors import StartError
from deploy.stack import controlling
from deploy.stack.settings import Settings


async def test_a_postgres_that_goes_as_domains_are_compared_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Mock()

    async def connect(*_: Any, **__: Any) -> Mock:
        return connection

    async def wanted_release(_: Mock) -> None:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed")

    monkeypatch.setattr(controlling, "connect", connect)
    monkeypatch.setattr(controlling, "wanted_release", wanted_release)
    identity = SimpleNamespace(domain="another", stack="id")
    owned: Any = SimpleNamespace(before={"domain": "one"}, identity=identity)
    with pytest.raises(StartError, match="Postgres does not answer: connection was closed"):
        await controlling._check_domain(Settings(), "postgresql://", owned)
    connection.terminate.assert_called_once()
