"""Which Redis a stack uses: a given one, its own, or none; and which are refused."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.errors import StartError
from deploy.stack import redis_server
from deploy.stack.display import Display
from deploy.stack.openness import what_is_open
from deploy.stack.redis_process import fault
from deploy.stack.redis_server import RedisServer, start_redis
from deploy.stack.roles import check
from deploy.stack.settings import load
from rayfold import Registry


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the servers of this machine, and its settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(redis_server, "installed", lambda: None)


async def started(data: Path, *stores: tuple[str, ...], **settings: Any) -> RedisServer:
    views = {
        f"view-{number}": SimpleNamespace(name=f"view-{number}", stores=each)
        for number, each in enumerate(stores)
    }
    registry = cast(Registry, SimpleNamespace(views=views))
    async with AsyncExitStack() as parts:
        return await start_redis(load(**settings), registry, data, parts, Display())


async def test_a_domain_that_names_no_redis_gets_none(tmp_path: Path) -> None:
    assert await started(tmp_path, ("memory",), ("postgres",)) == RedisServer("", ())


async def test_without_redis_a_view_is_kept_in_its_other_stores_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert await started(tmp_path, ("memory", "redis"), ("postgres",)) == RedisServer("", ())
    [record] = caplog.records
    assert record.__dict__["views"] == ["view-0"]


async def test_a_view_that_would_be_kept_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"'view-1' is kept in Redis alone.* give --redis"):
        await started(tmp_path, ("memory", "redis"), ("redis",))


async def test_a_server_of_our_own_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="redis-server or valkey-server, and neither is installed"):
        await started(tmp_path, redis="embedded")


@pytest.mark.parametrize(
    "url", ["redis://user:secret@127.0.0.1:1/0", "unix:///nowhere/redis.sock?password=secret"]
)
async def test_a_server_that_does_not_answer_is_reported_without_its_password(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(StartError, match=r"does not answer: .*: check --redis") as told:
        await started(tmp_path, redis=url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


async def test_an_invalid_url_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"setting redis: .*embedded, or a URL"):
        await started(tmp_path, redis="localhost:6379")
    with pytest.raises(StartError, match="--redis is not the URL of a Redis server"):
        await started(tmp_path, redis="redis://localhost:many")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFOLD_REDIS", "")
    assert load().redis is None


def test_a_part_of_a_cluster_starts_no_redis() -> None:
    given = {"eventstore": "kdb://a:1", "postgres": "host=a", "ray_address": "auto"}
    with pytest.raises(StartError, match=r"rayfold gateway starts no server .* give --redis a URL"):
        check(load(**given, redis="embedded"), "gateway")


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "evicts rows"),
        ({"redis_mode": "cluster"}, "Redis Cluster"),
        ({"role": "slave"}, "takes no writes"),
        ({"aof_last_write_status": "err"}, "to the disk"),
        ({"loading": 1}, "reads its data"),
    ],
)
def test_a_server_that_cannot_keep_rows_says_why(info: dict[str, Any], told: str) -> None:
    well = {
        "maxmemory_policy": "volatile-lru",  # rows have no time to live
        "redis_mode": "standalone",
        "role": "master",
        "aof_last_write_status": "ok",
        "loading": 0,
    }
    assert fault(well) is None
    assert told in str(fault(well | info))


def test_an_open_external_redis_is_reported() -> None:
    def told(url: str) -> list[str]:
        found = what_is_open(load(redis=url), {})
        return [each.change for each in found if "Redis" in each.what]

    assert told("redis://db.example/0") == [
        "give its URL rediss://",
        "give its URL a user and a password",
    ]
    assert told("rediss://rayfold:secret@db.example/0") == []
    assert told("unix:///run/redis.sock") == told("embedded") == told("redis://127.0.0.1") == []
