"""All process managers of a domain at work in this process, and what operators ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from actors.command_bus import CommandBus
from actors.errors import EventStoreUnavailable, NoSuchProcess
from actors.processes.checkpoints import lay_out
from actors.processes.process_state import ProcessState
from actors.processes.runner import ProcessRunner
from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from rayfold import Registry
from rayfold.process_instance import ProcessInstance


class ProcessSide:
    """A runner for each process manager; none runs where the domain has none.

    Where two run for one stack they do no harm, and the same work twice: a step is recorded at the
    revision that was expected, by one of them.
    """

    def __init__(self, registry: Registry, store: Log, bus: CommandBus) -> None:
        """`store` is closed with it."""
        self._registry = registry
        self._store = store
        self._bus = bus
        self._runners: dict[str, ProcessRunner] = {}

    async def start(self) -> None:
        """Go on with every process.

        Raises:
            EventStoreUnavailable: it does not answer.
        """
        try:
            for name, definition in self._registry.processes.items():
                layout = await lay_out(self._store, name, 1, self._registry.prefixes)
                runner = ProcessRunner(
                    self._registry, definition, self._store, self._bus, layout=layout
                )
                self._runners[name] = runner
                await runner.start()
        except StoreUnavailable as error:
            raise EventStoreUnavailable(str(error)) from error

    async def stop(self) -> None:
        """Stop where they are; the next start goes on from there."""
        for runner in self._runners.values():
            await runner.stop()
        await self._store.close()

    def status(self) -> list[dict[str, Any]]:
        """Return the state of every runner, as parts of the stack."""
        return [
            {
                "part": f"process:{name}#0",
                "kind": "process",
                "serves": False,
                "ready": not (status := runner.status())["error"],
                **status,
            }
            for name, runner in self._runners.items()
        ]

    def list(self, name: str | None, *, parked: bool, limit: int) -> dict[str, Any]:
        """Return the processes that have not ended, the parked ones first, and how many there are.

        Raises:
            NoSuchProcess: no process manager has that name.
        """
        found = sorted(
            self._open(name, parked), key=lambda each: (each["error"] is None, each["key"])
        )
        return {"processes": found[:limit], "total": len(found)}

    def schedules(self, limit: int) -> dict[str, Any]:
        """Return the timeouts that are due next, and how many there are."""
        found = sorted(
            (due, name, key, timeout)
            for name, runner in self._runners.items()
            for due, key, timeout, _ in runner.timers
        )
        return {
            "schedules": [
                {"due": due, "process": name, "key": key, "timeout": timeout}
                for due, name, key, timeout in found[:limit]
            ],
            "total": len(found),
        }

    async def show(self, name: str, key: str) -> dict[str, Any]:
        """Return a process: its state, its steps, what waits.

        Raises:
            NoSuchProcess: there never was one.
            EventStoreUnavailable: its stream cannot be read.
        """
        runner = self._runner(name)
        state = ProcessState(ProcessInstance(runner.definition, key), self._registry)
        steps: list[dict[str, Any]] = []
        unreadable = ""
        try:
            async for raw in self._store.read_stream(f"{runner.definition.prefix}{key}"):
                steps.append(
                    {
                        "type": raw.event_type,
                        "revision": raw.revision,
                        "position": raw.position,
                        "recorded_at": raw.recorded_at,
                        "data": msgspec.json.decode(raw.data),
                    }
                )
                if not unreadable:
                    unreadable = _fold(state, raw)
        except StoreUnavailable as error:
            raise EventStoreUnavailable(str(error)) from error
        if not steps:
            raise NoSuchProcess(name, key)
        instance = state.instance
        return {
            "process": name,
            "key": key,
            "status": _status(instance, unreadable or state.error),
            "state": instance.state.model_dump(mode="json"),
            "error": unreadable or state.error or None,
            "waiting_commands": [
                {"command_id": each.command_id, "command": type(each.command).__rayfold__.name}
                for each in instance.waiting.values()
            ],
            "timeouts": {each.name: each.due for each in instance.timers.values()},
            "parked": [told.trigger for told in state.parked],
            "steps": steps,
        }

    async def retry(self, name: str, key: str) -> None:
        """Tell a parked process again what it broke on.

        Raises:
            NoSuchProcess: none of that key is parked.
            ProcessStuck: it cannot even be read.
        """
        try:
            await self._runner(name).retry(key)
        except LookupError as error:
            raise NoSuchProcess(name, key) from error

    async def abort(self, name: str, key: str, *, as_it_is: bool = False) -> None:
        """End a process, with its compensation unless `as_it_is`.

        Raises:
            NoSuchProcess: none of that key is open.
            ProcessStuck: it cannot be read, or its compensation breaks.
        """
        try:
            await self._runner(name).abort(key, as_it_is=as_it_is)
        except LookupError as error:
            raise NoSuchProcess(name, key) from error

    def _runner(self, name: str) -> ProcessRunner:
        runner = self._runners.get(name)
        if runner is None:
            raise NoSuchProcess(name)
        return runner

    def _open(self, name: str | None, parked: bool) -> Iterator[dict[str, Any]]:
        runners = self._runners if name is None else {name: self._runner(name)}
        for each, runner in runners.items():
            errors = runner.parked
            due = _next_due(runner)
            for key in errors if parked else runner.open | errors.keys():
                yield {
                    "process": each,
                    "key": key,
                    "status": "parked" if key in errors else "open",
                    "error": errors.get(key),
                    "next_timeout": due.get(key),
                }


def _next_due(runner: ProcessRunner) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for due, key, *_ in runner.timers:
        found[key] = min(due, found.get(key, due))
    return found


def _status(instance: ProcessInstance, error: str) -> str:
    if error:
        return "parked"
    return "ended" if instance.ended and not instance.waiting else "open"


def _fold(state: ProcessState, raw: Any) -> str:
    try:
        state.fold(raw)
    except Exception as error:  # the domain has changed: what the log has is shown all the same
        return f"revision {raw.revision} cannot be read: {error}"
    return ""
