"""A write side that does not start leaves no actor behind."""

from __future__ import annotations

import pytest
import ray
from ray.exceptions import RayError

from actors import write_owner
from actors.errors import WriteSideError
from actors.write_owner import WriteOwner
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

    def make(owner: WriteOwner, name: str, kind: str, place: object) -> Actor:
        return actors.setdefault(name, Actor(breaks=name.endswith("#1")))

    monkeypatch.setattr(WriteOwner, "_actor", make)
    monkeypatch.setattr(write_owner, "list_named_actors", lambda **_: [])
    monkeypatch.setattr(ray, "kill", killed.append)
    settings = WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false", hosts=2)
    with pytest.raises(WriteSideError, match="no room"):
        await WriteSide.start(Registry.load("domain"), settings)
    assert sorted(map(id, killed)) == sorted(map(id, actors.values()))
    assert len(killed) == 2
