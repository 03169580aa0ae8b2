"""All process managers of a domain: starting, supervising and querying their actors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors

from actors.errors import EventStoreUnavailable, NoSuchProcess, Unavailable
from actors.processes.checkpoints import Layout, lay_out
from actors.processes.partition_handle import (
    NO_ANSWER,
    SILENCE,
    STOP,
    PartitionHandle,
    unavailable,
)
from actors.processes.process_actor import ProcessActor
from actors.processes.reaching import Switchboard
from actors.processes.runner import partition_of
from actors.processes.settings import KIND, ProcessSettings, manager_of
from actors.processes.showing import show
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from actors.write_settings import WriteSettings, made_with
from actors.write_side import WriteSide
from eventstore.errors import StoreUnavailable
from eventstore.personal.opening import open_log
from rayfold import RayfoldError, Registry
from rayfold.runtime.current_actor import CurrentActor
from rayfold.runtime.named_actor import find_or_make
from rayfold.runtime.node import node_name
from rayfold.runtime.node_domain import why_not_made
from rayfold.runtime.placing import Placed
from rayfold.runtime.rpc import Address
from rayfold.runtime.together import all_done, together

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two checks of the actors."""

START = 60.0
"""Seconds that actors may take to start on a busy machine."""


class ProcessSide:
    """Several actors per process manager, each with a partition of the keys; none without managers.

    Two actors of one partition, as when a disconnected node returns, do no harm: only one of them
    can record a step at its expected revision, and the commands that both send have the same
    command ids.
    """

    def __init__(self, registry: Registry, settings: ProcessSettings, writes: WriteSide) -> None:
        self._registry = registry
        self._settings = settings
        self._log = open_log(settings.eventstore, registry, settings.postgres)
        self._switchboard = Switchboard(
            lambda: (writes.settings.epoch, writes.routes()), writes.owner.make_dedicated
        )
        self.schedules_of_gateway = Schedules(self._log)
        """Schedules for the gateway in this process."""
        self._commands = ScheduleRunner(registry, self._log, writes.bus, settings.postgres)
        self._partitions: dict[str, list[PartitionHandle]] = {}
        self._before: Sequence[CurrentActor] = ()
        """The actors of the previous release, until ours take over."""
        self._scaling = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._lost = False

    async def start(self, *, follows: bool = False) -> None:
        """Resume every process and the scheduled commands.

        `follows`: another release's actors keep running until `take_over`, as ours may fail to
        start.

        Raises:
            EventStoreUnavailable, Unavailable: the store does not answer, or an actor does not.
        """
        if follows:
            names = await asyncio.to_thread(self._named)
            self._before = [self._found(each) for each in names]
        else:
            await self.take_over()
        self._looking = asyncio.create_task(self._look_always())
        try:
            await self._commands.start()
        except StoreUnavailable as error:
            raise EventStoreUnavailable.because(error) from error

    async def take_over(self) -> None:
        """Resume every process in place of the actors that run it now.

        Raises:
            EventStoreUnavailable, Unavailable: the store does not answer, or an actor does not.
        """
        self._before = ()
        known = tuple(self._actor_name(name, "") for name in self._registry.processes)
        # Managers that no longer exist.
        await self._end_all(lambda name: not name.startswith(known))
        await together(*(self._go_on(name) for name in self._registry.processes))

    async def scale(self, target: str, number: int) -> None:
        """Divide the keys of a process manager among this number of actors.

        The old actors stop where they are, the new ones continue from there. A disconnected old
        actor that goes on does no harm; see the class.

        Raises:
            BadScale: there is no such target, or the number is not possible.
            EventStoreUnavailable: nothing has changed.
            Unavailable: a new actor does not start; that is tried again.
        """
        name = manager_of(self._registry, target, number)
        async with self._scaling:
            if number == len(self._partitions.get(name, ())):
                return
            layout = await self._lay_out(name, number)
            await all_done(*(each.end() for each in self._partitions.pop(name, ())))
            await self._begin(name, layout)

    async def stop(self) -> None:
        """Stop; the next start continues from there. Detached actors keep running."""
        async with AsyncExitStack() as closing:  # in reverse order, even if one of them raises
            closing.push_async_callback(self._log.close)
            closing.push_async_callback(self._switchboard.close)
            if not self._settings.detached:
                closing.push_async_callback(self.end)
            closing.push_async_callback(self._commands.stop)
            closing.push_async_callback(self._look_no_more)  # it may be starting an actor

    async def end(self) -> None:
        """End the actors."""
        await all_done(*(each.end() for each in self._all))

    async def forget_personal(self) -> None:
        """Make every process read its stream again: a person in its state may be forgotten.

        Also every scheduled command that is being sent.

        Raises:
            Unavailable: an actor may not have done it.
        """
        await all_done(
            self._commands.forget_personal(),
            *(each.ask("forget_personal") for each in self._all),
        )

    async def lose(self) -> None:
        """Stop calling actors: Ray is gone."""
        self._lost = True
        for each in self._all:
            each.lose()
        for before in self._before:
            before.lose()

    async def heal(self) -> None:
        """Start the actors again in another Ray; they resume by themselves.

        Raises:
            Unavailable: they cannot be started.
        """
        self._lost = False
        for before in self._before:
            before.respawn()
        try:
            await asyncio.gather(*(each.start() for each in self._all))
        except RayError as error:
            raise Unavailable(f"process actors: {why_not_made(error)}") from error

    async def status(self) -> Sequence[dict[str, Any]]:
        """Return the status of every actor, as parts of the stack."""
        scheduled = {
            "part": "schedules",
            "kind": "schedules",
            "serves": False,
            **self._commands.status(),
            "node": node_name(),
        }
        scheduled["ready"] = "error" not in scheduled
        return [*(each.status() for each in self._all), scheduled]

    async def list(self, name: str | None, *, parked: bool, limit: int) -> dict[str, Any]:
        """Return the processes that have not ended, parked ones first, and their number.

        Raises:
            NoSuchProcess: no process manager has that name.
            Unavailable: an actor does not answer.
        """
        asked = self._all if name is None else self._of(name)
        answers = await asyncio.gather(*(each.ask("open", parked, limit) for each in asked))
        found = sorted(
            (each for some, _ in answers for each in some),
            key=lambda each: (each["error"] is None, each["process"], each["key"]),
        )
        return {"processes": found[:limit], "total": sum(total for _, total in answers)}

    async def schedules(self, limit: int) -> dict[str, Any]:
        """Return the timeouts and commands that are due next, and the number of each.

        Raises:
            Unavailable: an actor does not answer.
        """
        commands, scheduled = self._commands.scheduled(limit)
        named = [(name, each) for name, handles in self._partitions.items() for each in handles]
        answers = await asyncio.gather(*(each.ask("timeouts", limit) for _, each in named))
        found = sorted(
            (due, name, key, timeout)
            for (name, _), (timers, _) in zip(named, answers, strict=True)
            for due, key, timeout in timers
        )
        return {
            "schedules": [
                {"due": due, "process": name, "key": key, "timeout": timeout}
                for due, name, key, timeout in found[:limit]
            ],
            "commands": commands,
            "total": sum(total for _, total in answers) + scheduled,
        }

    async def show(self, name: str, key: str) -> dict[str, Any]:
        """Return a process: its state, its steps, and what it waits for.

        Raises:
            NoSuchProcess: it never existed.
            EventStoreUnavailable: its stream cannot be read.
        """
        definition = self._registry.processes.get(name)
        if definition is None:
            raise NoSuchProcess(name)
        try:
            return await show(self._log, self._registry, definition, key)
        except StoreUnavailable as error:
            raise EventStoreUnavailable.because(error) from error

    async def retry(self, name: str, key: str) -> None:
        """Retry the message on which a process was parked.

        Raises:
            NoSuchProcess: no process with that key is parked.
            ProcessStuck: its stream cannot be read.
            Unavailable: its actor does not answer.
        """
        await self._owner_of(name, key).ask("retry", key)

    async def abort(self, name: str, key: str, *, as_it_is: bool = False) -> None:
        """End a process, with its compensation unless `as_it_is`.

        Raises:
            NoSuchProcess: no process with that key is open.
            ProcessStuck: its stream cannot be read, or its compensation fails.
            Unavailable: its actor does not answer.
        """
        await self._owner_of(name, key).ask("abort", key, as_it_is)

    @property
    def _all(self) -> Sequence[PartitionHandle]:
        return [each for handles in self._partitions.values() for each in handles]

    def _of(self, name: str) -> Sequence[PartitionHandle]:
        if name not in self._registry.processes:
            raise NoSuchProcess(name)
        if not (handles := self._partitions.get(name)):
            raise Unavailable(f"{KIND}:{name} is being scaled")
        return handles

    def _owner_of(self, name: str, key: str) -> PartitionHandle:
        handles = self._of(name)
        return handles[partition_of(key, len(handles))]

    async def _go_on(self, name: str) -> None:
        layout = await self._lay_out(name, self._settings.partitions(name))
        await self._end_others(name, layout)
        await self._begin(name, layout)

    async def _lay_out(self, name: str, partitions: int) -> Layout:
        try:
            return await lay_out(self._log, name, partitions, self._registry.prefixes)
        except StoreUnavailable as error:
            raise EventStoreUnavailable.because(error) from error

    async def _begin(self, name: str, layout: Layout) -> None:
        handles = [self._handle(name, layout, each) for each in range(layout.partitions)]
        self._partitions[name] = handles
        error: object = NO_ANSWER
        try:
            async with asyncio.timeout(START):
                await together(*(each.start() for each in handles))
                address = await self._address()
                while waiting := [each for each in handles if not each.seen.get("pid")]:
                    await asyncio.gather(*(each.look(address) for each in waiting))
                    error = waiting[0].seen.get("error")
                    await asyncio.sleep(LOOK / 20)
        except RayError as failure:
            error = why_not_made(failure)
        except TimeoutError as late:
            if error == NO_ANSWER:
                error = why_not_made(late)
        else:
            return
        raise Unavailable(f"{KIND}:{name}: an actor does not come up: {error}")

    async def _end_others(self, name: str, layout: Layout) -> None:
        """End the detached actors of an older layout, which their owner did not get to end."""
        prefix, ours = self._actor_name(name, ""), self._ending(layout)
        await self._end_all(lambda each: each.startswith(prefix) and not each.endswith(ours))

    async def _end_all(self, meant: Callable[[str], bool]) -> None:
        """End the detached actors whose names match."""
        if not self._settings.detached:
            return

        def end() -> None:
            for each in filter(meant, self._named()):
                with suppress(ValueError, RayError):  # it is gone
                    ray.kill(ray.get_actor(each, self._settings.namespace))

        await asyncio.to_thread(end)

    def _named(self) -> Sequence[str]:
        """Return the names of all process actors of the stack; blocks."""
        prefix = f"rayfold:{self._settings.identity.stack}:{KIND}:"
        return [each for each in list_named_actors() if each.startswith(prefix)]

    def _found(self, name: str) -> CurrentActor:
        find = partial(ray.get_actor, name, self._settings.namespace)
        return CurrentActor(name, find, lambda: None, unavailable, owned=False)

    async def _tell(self, before: CurrentActor, address: Address) -> None:
        """Tell an actor of another release where to ask for routes of commands."""
        with suppress(RayfoldError, TimeoutError):  # it is gone, or being restarted
            async with asyncio.timeout(SILENCE):
                await before.call("ask_at", tuple(address))

    def _ending(self, layout: Layout) -> str:
        release = self._settings.identity.domain if self._settings.detached else ""
        if not release:
            return f"@{layout.number}"
        # Actors with other settings, such as an old password, have other names.
        told = made_with(self._settings.eventstore, self._settings.postgres)
        return f"@{layout.number}@{release}.{told}"

    def _actor_name(self, name: str, which: str) -> str:
        return f"rayfold:{self._settings.identity.stack}:{KIND}:{name}#{which}"

    def _handle(self, name: str, layout: Layout, partition: int) -> PartitionHandle:
        part = f"{KIND}:{name}#{partition}"
        place = Placed(self._settings.placing, part, KIND, f"{KIND}:{name}")
        return PartitionHandle(part, partial(self._spawn, name, layout, partition, place), place)

    def _spawn(self, name: str, layout: Layout, partition: int, place: Placed) -> Any:
        settings = self._settings
        return find_or_make(
            ProcessActor,
            self._actor_name(name, f"{partition}{self._ending(layout)}"),
            settings.namespace,
            place,
            name,
            partition,
            tuple(layout),
            WriteSettings(
                settings.domain,
                settings.eventstore,
                namespace=settings.namespace,
                identity=settings.identity,
            ),
            settings.postgres,
            detached=settings.detached,
        )

    async def _address(self) -> Address:
        return await self._switchboard.address(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]

    async def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking], timeout=STOP)

    async def _look_always(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if self._lost:
                continue
            try:
                address = await self._address()
                await asyncio.gather(
                    *(each.look(address) for each in self._all),
                    *(self._tell(each, address) for each in self._before),
                )
            except Exception:
                log.exception("process actors could not be looked after")
