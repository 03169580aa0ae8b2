"""A controller that owns the stack, before it makes anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import asyncpg
import pytest

from deploy.errors import StartError
from deploy.stack import controlling
from deploy.stack.release import Release
from deploy.stack.settings import Settings
from rayfold.runtime import postgres


async def test_losing_postgres_while_domains_are_compared_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Mock()

    async def connect(*_: Any, **__: Any) -> Mock:
        return connection

    async def wanted_release(_: Mock) -> None:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed")

    monkeypatch.setattr(postgres, "connect", connect)
    monkeypatch.setattr(controlling, "wanted_release", wanted_release)
    identity = SimpleNamespace(domain="another", stack="id")
    owned: Any = SimpleNamespace(before={"domain": "one"}, identity=identity)
    with pytest.raises(StartError, match="Postgres does not answer: connection was closed"):
        await controlling._check_domain(Settings(), "postgresql://", owned)
    connection.terminate.assert_called_once()


@pytest.mark.parametrize("accept_parked", [False, True])
async def test_a_requested_release_follows_another_unless_it_was_refused(
    accept_parked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Release(3, "shop", "new", {}, accept_parked)

    async def connect(*_: Any, **__: Any) -> Mock:
        return Mock()

    async def wanted_release(_: Mock) -> Release:
        return wanted

    monkeypatch.setattr(postgres, "connect", connect)
    monkeypatch.setattr(controlling, "wanted_release", wanted_release)
    owned: Any = SimpleNamespace(before={"domain": "old"}, identity=SimpleNamespace(domain="new"))
    assert await controlling._check_domain(Settings(), "postgresql://", owned) == wanted
    owned.before["domain"] = "new"  # it runs already
    assert await controlling._check_domain(Settings(), "postgresql://", owned) is None
    owned.before["domain"] = "old"
    wanted = wanted._replace(refused="it parks keys")
    with pytest.raises(StartError, match="release 3 was refused: it parks keys"):
        await controlling._check_domain(Settings(), "postgresql://", owned)
