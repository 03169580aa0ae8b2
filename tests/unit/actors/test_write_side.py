"""A write side that does not start leaves no actor behind."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray.exceptions import RayError

from actors import write_owner
from actors.errors import WriteSideError
from actors.placement import host_actors, host_link
from actors.placement.host_actors import HostActors
from actors.placement.shards import ShardTable
from actors.write_owner import WriteOwner
from actors.write_settings import WriteSettings
from actors.write_side import WriteSide
from rayfold import Registry
from rayfold.runtime.identity import Identity


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


async def test_actors_of_aggregates_are_ended_where_one_of_them_does_not_come_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actors: dict[str, Actor] = {}
    killed: list[Actor] = []

    def make(actors_of_ray: HostActors, name: str, kind: str, place: object) -> Actor:
        return actors.setdefault(name, Actor(breaks=name.endswith("second")))

    monkeypatch.setattr(HostActors, "_actor", make)
    monkeypatch.setattr(ray, "kill", killed.append)
    settings = WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false")
    made = HostActors(settings, lambda *_: None, lambda *_: None)
    with pytest.raises(WriteSideError, match="no room"):
        await made.new_dedicated(["shelf-first", "shelf-second"], "")
    assert sorted(map(id, killed)) == sorted(map(id, actors.values()))
    assert len(killed) == 2


@pytest.mark.parametrize("what", ["hosts", "actors of aggregates"])
@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_an_actor_that_is_still_being_made_is_ended_with_the_others(
    monkeypatch: pytest.MonkeyPatch, what: str, how: str
) -> None:
    begun, let_go = threading.Event(), threading.Event()
    killed: list[Actor] = []
    actor = Actor(breaks=False)

    def make(actors_of_ray: HostActors, name: str, kind: str, place: object) -> Actor:
        begun.set()
        assert let_go.wait(60)
        return actor

    monkeypatch.setattr(HostActors, "_actor", make)
    monkeypatch.setattr(host_link, "MAKING", 60.0)
    monkeypatch.setattr(host_actors, "START_TIMEOUT", 60.0 if how == "cancelled" else 0.01)
    monkeypatch.setattr(ray, "kill", killed.append)
    settings = WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false")
    made = HostActors(settings, lambda *_: None, lambda *_: None)
    begin = made.new_hosts(range(1, 2), "") if what == "hosts" else made.new_dedicated(["a-b"], "")
    making = asyncio.ensure_future(begin)
    assert await asyncio.to_thread(begun.wait, 60)
    if how == "cancelled":
        making.cancel()
    while not making.done() and not killed:
        await asyncio.sleep(0.02)
        let_go.set()
    with pytest.raises(asyncio.CancelledError if how == "cancelled" else WriteSideError):
        await making
    assert killed == [actor]


async def test_hosts_of_a_release_are_given_up_where_actors_of_aggregates_do_not_come_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    class New:
        """A host of the new release."""

        place = SimpleNamespace(ended=lambda: closed.append("its place"))

        async def close(self) -> None:
            closed.append("the way to it")

    async def hosts(actors: HostActors, numbers: range, release: str) -> list[Any]:
        return [New()]

    async def dedicated(actors: HostActors, streams: object, release: str) -> None:
        raise WriteSideError("no room")

    monkeypatch.setattr(HostActors, "new_hosts", hosts)
    monkeypatch.setattr(HostActors, "new_dedicated", dedicated)
    settings = WriteSettings(
        "domain",
        "kdb://127.0.0.1:1?Tls=false",
        identity=Identity(domain="two"),
        detached=True,
    )
    before = {"release": "@one", "hosts": [{}], **ShardTable(1).plain()}
    owner = WriteOwner(Registry.load("domain"), settings, before=before)
    with pytest.raises(WriteSideError, match="no room"):
        await owner.renew()
    assert closed == ["its place", "the way to it"]


async def test_actors_made_by_the_owner_of_another_release_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other owner made them from its own code under our names, and was given up later.

    Some say which code they have only after a restart; a silent one may be of the other code.
    """
    made: dict[str, list[Running]] = {}

    class Running(Actor):
        """One that says which code it has, once it was asked so often."""

        def __init__(self, domain: dict[str, object], silent: float = 0) -> None:
            super().__init__(breaks=False)
            self._domain = domain
            self._silent = silent

        async def remote(self) -> dict[str, object]:
            if self._silent:
                self._silent -= 1
                raise RayError("it comes up again")
            return self._domain

    def make(actors_of_ray: HostActors, name: str, kind: str, place: object) -> Actor:
        before = made.setdefault(name, [])
        if not before:
            is_other = name.removesuffix("@one").endswith(("#1", "till-b", "till-c", "till-e"))
            says = {"domain": "two"} if is_other else {"domain": "one"}
            silent = next((n for end, n in silent_for.items() if end in name), 0)
            before.append(Running({} if "#0" in name else says, silent))
        if before[-1] in killed:
            before.append(Running({"domain": "one"}))
        return before[-1]

    killed: list[Actor] = []
    monkeypatch.setattr(HostActors, "_actor", make)
    silent_for = {"till-c": 2, "till-d": 2, "till-e": math.inf}
    monkeypatch.setattr(write_owner, "RETURN_TIMEOUT", 0.5)
    monkeypatch.setattr(write_owner, "ASK_INTERVAL", 0.01)
    streams = ["till-a", "till-b", *silent_for]
    monkeypatch.setattr(HostActors, "named", lambda *_: host_actors.Named([], streams, []))
    monkeypatch.setattr(ray, "kill", killed.append)

    def owner(domain: str) -> WriteOwner:
        settings = WriteSettings(
            "tests.releases.one",
            "kdb://127.0.0.1:1?Tls=false",
            hosts=2,
            identity=Identity(domain=domain),
            detached=True,
        )
        before = {"release": "@one", "hosts": [{}, {}], **ShardTable(2).plain()}
        found = WriteOwner(Registry.load("tests.releases.one"), settings, before=before)
        for part in (found._deletions, found._watch):
            monkeypatch.setattr(part, "start", lambda: None)
        monkeypatch.setattr(found, "_announce", lambda: None)
        return found

    for domain, ended in (("two", 0), ("one", 4)):  # whose the old ones are not to be replaced
        taking_over = owner(domain)
        await taking_over.start()
        assert len(killed) == ended
        await taking_over.stop()
    names = {name for name, actors in made.items() if actors[0] in killed}
    assert names == {"rayfold::write#1@one"} | {
        f"rayfold::aggregate:till-{which}@one" for which in "bce"
    }


class Host:
    """One of a node, which had better be elsewhere; meanwhile something happens."""

    def __init__(self, meanwhile: Callable[[], None], *, asked: bool) -> None:
        self._meanwhile, self._asked = meanwhile, asked
        self.place = SimpleNamespace(found=lambda node: None, misplaced=self._misplaced)

    async def status(self) -> dict[str, Any]:
        if self._asked:
            self._meanwhile()
        return {"ready": True, "node": "n"}

    def _misplaced(self) -> bool:
        if not self._asked:
            self._meanwhile()
        return True


@pytest.mark.parametrize("what", ["another joins", "it leaves", "it is brought back"])
async def test_a_misplaced_host_moves_once_whatever_happens_meanwhile(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def meanwhile() -> None:
        if what == "another joins":
            owner._hosts.append(owner._hosts[0])
        elif what == "it leaves":
            owner._hosts.clear()
        else:
            returning[owner._hosts[0]] = "a task"

    owner = WriteOwner(
        Registry.load("domain"), WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false")
    )
    returning: Any = owner._returning
    left: list[object] = []
    monkeypatch.setattr(owner, "_leave", lambda client, *, replace: left.append(client))
    hosts: Any = [Host(meanwhile, asked=what == "another joins") for _ in range(2)]
    owner._hosts[:] = hosts
    await owner._spread()
    assert left == (hosts[:1] if what == "another joins" else [])


async def test_forgetting_waits_until_leaving_hosts_have_finished() -> None:
    """They still execute commands that they received before, but get no new calls."""
    told: list[str] = []

    class Client:
        """A host."""

        async def forget_personal(self, subjects: list[str]) -> None:
            told.append("forget")

        async def refill(self, stream: str) -> None:
            told.append(stream)

    settings = WriteSettings("tests.personal", "kdb://127.0.0.1:1?Tls=false", hosts=1)
    owner = WriteOwner(Registry.load("tests.personal"), settings, changed=lambda: None)
    owner._hosts = cast("Any", [Client()])
    await owner._scaling.acquire()
    forgetting = asyncio.gather(owner.forget_personal(["ada"]), owner.refill("account-ada"))
    await asyncio.sleep(0)
    assert not told
    owner._scaling.release()
    await forgetting
    assert told == ["forget", "account-ada"]
