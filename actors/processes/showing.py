"""A process as operators see it: folded from its stream on request."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

from actors.errors import NoSuchProcess
from actors.processes.process_state import ProcessState
from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import RawRecord, as_written
from rayfold import Registry
from rayfold.foreign_json import readable
from rayfold.process import ProcessDefinition
from rayfold.process_instance import ProcessInstance
from rayfold.runtime.turns import Turn

STEPS = 1000
"""The most steps that are shown: a process may run for years."""


async def show(
    log: Log, registry: Registry, definition: ProcessDefinition, key: str
) -> dict[str, Any]:
    """Return a process: its state, its last steps and how many came before, and what waits.

    Raises:
        NoSuchProcess: it never existed, or its stream was deleted.
        StoreUnavailable: its stream cannot be read.
    """
    state = ProcessState(ProcessInstance(definition, key), registry)
    last: deque[RawRecord] = deque(maxlen=STEPS)
    unreadable, number, turn = "", 0, Turn()
    with suppress(StreamTombstoned):  # deleted by another client
        async for raw in log.read_stream(f"{definition.prefix}{key}"):
            await turn.pass_on()
            last.append(raw)
            number += 1
            if not unreadable:
                unreadable = _fold(state, raw)
    if not last:
        raise NoSuchProcess(definition.name, key)
    unreadable = unreadable or _lost(state)
    instance = state.instance
    return {
        "process": definition.name,
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
        "steps": [
            {
                "type": raw.event_type,
                "revision": raw.revision,
                "position": raw.position,
                "recorded_at": raw.recorded_at,
                "data": readable(as_written(raw)),
            }
            for raw in last
        ],
        "left_out": number - len(last),
    }


def _status(instance: ProcessInstance, error: str) -> str:
    if error:
        return "parked"
    return "ended" if instance.ended and not instance.waiting else "open"


def _lost(state: ProcessState) -> str:
    try:
        state.check()
    except (Exception, SystemExit) as error:
        return f"a command that waits cannot be sent: {error}"
    return ""


def _fold(state: ProcessState, raw: RawRecord) -> str:
    try:
        state.fold(raw)
    except (Exception, SystemExit) as error:  # the content of the log is shown all the same
        return f"revision {raw.revision} cannot be read: {error}"
    return ""
