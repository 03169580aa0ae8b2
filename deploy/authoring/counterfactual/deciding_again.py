"""Deciding a command with the current code, with the checks of the write side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from rayfold import Command, Event, Refused, Registry
from rayfold.decision import Instance
from rayfold.event_checks import check_events, listed
from rayfold.personal import plain
from rayfold.unchanged import Unchanged


class Told(NamedTuple):
    """An event for a stream, with its data as it would be written."""

    stream: str
    event: Event
    data: Any

    @property
    def kind(self) -> tuple[str, str]:
        """Its stream and its type."""
        return self.stream, type(self.event).__rayfold__.name


class Rejection(NamedTuple):
    """A business rule refused the command."""

    rule: str
    detail: str


class Broken(NamedTuple):
    """The code raised another error, or the write side would refuse its result."""

    error: str


Decided = list[Told] | Rejection | Broken


def told(stream: str, event: Event) -> Told:
    """Return an event with its data as it would be written today.

    Raises:
        ValueError: it would not read back unchanged from the log.
    """
    return Told(stream, event, json.loads(plain(type(event).__rayfold__.encode(event))))


def instances_of(registry: Registry, command: Command, tenant: str) -> tuple[Instance, ...]:
    """Return the aggregates that a tenant's command reads today, the leading one first.

    Raises:
        Exception: the domain's code that makes an id from the command failed.
    """
    decision = registry.decisions.get(type(command))
    if decision is not None:
        return decision.instances(command, tenant)
    aggregate = registry.owner[type(command)]
    stream = aggregate.stream(getattr(command, aggregate.id_field), tenant)
    return (Instance("", aggregate, stream),)


def decide(
    registry: Registry, command: Command, instances: Sequence[Instance], states: Sequence[Any]
) -> Decided:
    """Return the result of the command if the aggregates have these states."""
    try:
        return list(_events(registry, command, tuple(instances), states))
    except Refused as refused:
        return Rejection(refused.rule, refused.detail)
    except (Exception, SystemExit) as error:
        return Broken(f"{type(error).__name__}: {error}")


def _events(
    registry: Registry, command: Command, instances: tuple[Instance, ...], states: Sequence[Any]
) -> list[Told]:
    decision = registry.decisions.get(type(command))
    if decision is None:
        [alone], [state] = instances, states
        with Unchanged(alone.aggregate, state):
            events = listed(alone.aggregate.decide(state, command))
            check_events(events, alone.aggregate, command)
            alone.aggregate.fold(events, state)
        return [told(alone.stream, each) for each in events]
    after = {each.stream: state for each, state in zip(instances, states, strict=True)}
    given = decision.states_for(instances, lambda each: after[each.stream])
    with Unchanged(decision.model, *states):
        events = listed(decision.model.decide(given, command))
        tenant = registry.tenant_of(instances[0].stream)
        placed = [(decision.instance_of(each, instances, tenant), each) for each in events]
        for at, event in placed:
            after[at.stream] = at.aggregate.fold([event], after[at.stream])
    return [told(at.stream, event) for at, event in placed]
