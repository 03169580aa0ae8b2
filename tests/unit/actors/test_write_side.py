"""A write side that does not start leaves no actor behind."""

from __future__ import annotations

import pytest
import ray
from ray.exceptions import RayError

from actors.errors import WriteSideError
from actors.placement import host_actors
from actors.placement.host_actors import HostActors
from actors.write_side import WriteSettings, WriteSide
from rayfold import Registry


class Actor:
    """One that comes up, or breaks while it is made."""

    def __init__(self, *, breaks: bool) -> None:
        self.breaks = breaks
        self.status = self
        self._actor_id = b"1"

    async def remote(self) -> dict[str, object]:
        """Its status."""
        if self.breaks:
            raise RayError("no room")
        return {}


async def test_hosts_of_a_start_that_fails_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    actors: dict[str, Actor] = {}
    killed: list[Actor] = []

    def make(actors_of_ray: HostActors, name: str, kind: str, place: object) -> Actor:
        return actors.setdefault(name, Actor(breaks=name.endswith("#1")))

    monkeypatch.setattr(HostActors, "_actor", make)
    monkeypatch.setattr(host_actors, "list_named_actors", lambda **_: [])
    monkeypatch.setattr(ray, "kill", killed.append)
    settings = WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false", hosts=2)
    with pytest.raises(WriteSideError, match="no room"):
        await WriteSide.start(Registry.load("domain"), settings)
    assert sorted(map(id, killed)) == sorted(map(id, actors.values()))
    assert len(killed) == 2
