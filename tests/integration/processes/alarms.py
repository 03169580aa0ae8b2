"""A process that is killed: alarms that are set, and ring when they are due. Also its domain.

`python -m tests.integration.processes.alarms EVENTSTORE POSTGRES` says `ready`, and runs until it
is killed: a process manager's runner, the runner of scheduled commands, and a host for both.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

from actors.local import LocalRuntime
from actors.processes.checkpoints import lay_out
from actors.processes.runner import ProcessRunner
from actors.schedules.schedule_runner import ScheduleRunner
from eventstore.kurrentdb.log import EventLog
from rayfold import (
    NOW,
    Aggregate,
    Command,
    Complete,
    Event,
    Message,
    Now,
    ProcessManager,
    Registry,
    Schedule,
    Send,
    Step,
    TimedOut,
    UtcDatetime,
    on_timeout,
    starts,
)


class SetAlarm(Command, name="set-alarm", creates=True):
    """Ring then."""

    alarm: str
    due: UtcDatetime


class Ring(Command, name="ring", creates=True):
    """It is time."""

    alarm: str
    at: Now = NOW


class AlarmSet(Event, name="AlarmSet"):
    """It is to ring then."""

    alarm: str
    due: UtcDatetime


class AlarmRang(Event, name="AlarmRang"):
    """It rang."""

    alarm: str
    at: UtcDatetime


class AlarmState(Message):
    """Whether it rang is nothing that it needs to know: ringing twice would be seen."""


class Alarm(
    Aggregate[AlarmState, SetAlarm | Ring, AlarmSet | AlarmRang],
    category="alarm",
    id_field="alarm",
    initial=AlarmState(),
):
    """One alarm."""

    @staticmethod
    def decide(state: AlarmState, command: SetAlarm | Ring) -> list[AlarmSet | AlarmRang]:
        """See `Aggregate.decide`."""
        if isinstance(command, SetAlarm):
            return [AlarmSet(alarm=command.alarm, due=command.due)]
        return [AlarmRang(alarm=command.alarm, at=command.at)]

    @staticmethod
    def evolve(state: AlarmState, event: AlarmSet | AlarmRang) -> AlarmState:
        """See `Aggregate.evolve`."""
        return state


class RingingState(Message):
    """Nothing to remember."""

    alarm: str = ""


class Ringing(
    ProcessManager[RingingState, AlarmSet], name="ringing", key="alarm", initial=RingingState()
):
    """Rings an alarm that is set."""

    @staticmethod
    def evolve(state: RingingState, happened: Any) -> RingingState:
        """See `ProcessManager.evolve`."""
        return RingingState(alarm=happened.alarm) if isinstance(happened, AlarmSet) else state

    @staticmethod
    @starts(AlarmSet)
    def alarm_set(state: RingingState, event: AlarmSet) -> Iterator[Step]:
        yield Schedule("ring", at=event.due)

    @staticmethod
    @on_timeout("ring")
    def due(state: RingingState, timeout: TimedOut) -> Iterator[Step]:
        yield Send(Ring(alarm=state.alarm))
        yield Complete()


async def run(eventstore: str, postgres: str) -> None:
    """Run until it is killed."""
    registry = Registry([sys.modules[__name__]])
    log = EventLog(eventstore)
    bus = LocalRuntime(registry, log).bus
    layout = await lay_out(log, "ringing", 1, registry.prefixes)
    runner = ProcessRunner(
        registry, Ringing.__rayfold__, log, bus, layout=layout, postgres=postgres
    )
    commands = ScheduleRunner(registry, log, bus, postgres)
    await asyncio.gather(runner.start(), commands.start())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
