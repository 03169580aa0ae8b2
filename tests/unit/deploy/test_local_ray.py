"""Ray is restarted until all actors run, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.errors import StartError
from deploy.stack import local_ray, own_disk, ray_runtime
from deploy.stack.local_ray import LocalRay

DEADLINE = 10.0


class Ray:
    """What of it has ended."""

    def __init__(self) -> None:
        self.ended: str | None = "raylet"
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        self.ended = None


class Side:
    """Raises these, one after the other, as its actors are made again."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.lost = 0
        self.healed = asyncio.Event()

    async def lose(self) -> None:
        self.lost += 1

    async def heal(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.healed.set()


async def test_no_error_ends_the_watch_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray()
    monkeypatch.setattr(ray_runtime, "ended", lambda: ray.ended)
    monkeypatch.setattr(ray_runtime, "stop", lambda: None)
    monkeypatch.setattr(local_ray, "LOOK", 0.001)
    monkeypatch.setattr(local_ray, "PAUSE", 0.001)
    whole = Side()
    side = Side(ValueError("no actor of that name"), StartError("no room"), RuntimeError("ray"))
    local = LocalRay(None, ray.start)
    watching = asyncio.create_task(local.watch([side, whole], lambda: None))
    try:
        async with asyncio.timeout(DEADLINE):
            await side.healed.wait()
            assert ray.starts == side.lost == whole.lost == 4
            side.healed.clear()
            ray.ended = "gcs_server"
            await side.healed.wait()  # it looks on
            assert ray.starts == 5
            assert local.status()["restarts"] == 1  # the second one is not counted yet
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def test_a_ray_that_hangs_is_reported_and_replaced_if_it_is_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray, side = Ray(), Side()
    ray.ended = None
    monkeypatch.setattr(ray_runtime, "ended", lambda: None)
    looked = 0

    def is_ours() -> bool:
        nonlocal looked
        looked += 1
        return looked > 3  # a cluster's is for whoever runs it

    monkeypatch.setattr(ray_runtime, "is_ours", is_ours)
    monkeypatch.setattr(ray_runtime, "stop", lambda: None)
    monkeypatch.setattr(local_ray, "LOOK", 0.001)
    local = LocalRay(None, ray.start)
    monkeypatch.setattr(local.answers, "silent", lambda: "raylet")
    status = local.status()
    assert not status["ready"]
    assert status["error"] == "raylet does not answer"
    hanging, forgotten = ["raylet"], asyncio.Event()

    def forget() -> None:
        hanging.clear()
        forgotten.set()

    monkeypatch.setattr(local.answers, "hanging", lambda: hanging[0] if hanging else None)
    monkeypatch.setattr(local.answers, "forget", forget)
    watching = asyncio.create_task(local.watch([side], lambda: None))
    try:
        async with asyncio.timeout(DEADLINE):
            await side.healed.wait()
            await forgotten.wait()
        assert ray.starts == 1
        assert looked >= 4
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def test_a_full_disk_of_its_session_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runtime, "session_folder", lambda: tmp_path)
    local = LocalRay(None, Ray().start)
    assert local.status()["ready"]
    monkeypatch.setattr(own_disk, "NEARLY_FULL", 1 << 62)
    status = local.status()
    assert not status["ready"]
    assert status["error"].startswith("its disk is full")
