"""What a group commit would do to several aggregates at once: decided, not yet written.

Decisions over several aggregates wait in the mailbox of the leading aggregate. Those that wait
together are decided in order, each on the state that the ones before it would leave, and are
appended together, so that the writer of a hot stream causes no conflicts with itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.json import encode

from actors.envelope import Done, Envelope, Outcome
from actors.errors import KeyReused, RevisionMismatch
from actors.host.entity import Entity
from actors.host.plan import (
    JointDecision,
    PendingCommand,
    Plan,
    Written,
    decide,
    decision_failed,
    record,
)
from actors.host.recent_commands import Seen
from eventstore.port import JointAppend, JointlyAppended
from eventstore.records import NewRecord
from rayfold import Event, Refused
from rayfold.decision import Instance
from rayfold.event_checks import listed
from rayfold.runtime.turns import Turn
from rayfold.unchanged import Unchanged


@dataclass(slots=True)
class JointlyWritten:
    """Done once the commit is durable; `revisions` covers every stream that the decision read."""

    revisions: dict[str, int]


@dataclass(slots=True)
class JointlySeen:
    """A repeated command that is already recorded in these streams."""

    seen: dict[str, Seen]


@dataclass(slots=True)
class JointPlan:
    """Commands of one mailbox, at least one of which decides over several aggregates.

    `plans` has a plan per stream, the leading one first; see `Plan` for the other fields.
    """

    plans: dict[str, Plan]
    commands: list[PendingCommand]
    verdicts: list[JointlyWritten | JointlySeen | Written | Seen | Outcome] = field(
        default_factory=list
    )
    records: list[NewRecord] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    """The stream of each record, in order."""
    accepted: dict[str, tuple[str, JointlyWritten]] = field(default_factory=dict)

    @property
    def entity(self) -> Entity:
        """The leading aggregate."""
        return next(iter(self.plans.values())).entity

    @property
    def entities(self) -> list[Entity]:
        """All aggregates of the plan."""
        return [each.entity for each in self.plans.values()]

    @property
    def is_unread(self) -> bool:
        """Whether `Plan.is_unread` holds for any of the streams."""
        return any(each.entity.optimistic for each in self.plans.values()) and (
            self.is_unproven or any(isinstance(verdict, Exception) for verdict in self.verdicts)
        )

    @property
    def is_unproven(self) -> bool:
        """Return whether a verdict is based on streams that no append will check."""
        return not self.records and not all(
            isinstance(verdict, JointlySeen | Seen | KeyReused) for verdict in self.verdicts
        )

    def leave(self, decided: int) -> None:
        """Drop all but the first `decided` commands, and the streams that only the others read."""
        self.commands = self.commands[:decided]
        read = {self.entity.stream}
        for each in self.commands:
            if each.joint:
                read.update(instance.stream for instance in each.joint.instances)
        self.plans = {stream: plan for stream, plan in self.plans.items() if stream in read}

    def append(self) -> JointAppend:
        """Return all records, with a revision check for every stream that was read."""
        expected = {stream: each.entity.expected for stream, each in self.plans.items()}
        return JointAppend(expected, list(zip(self.streams, self.records, strict=True)))

    def commit(self, appended: JointlyAppended) -> None:
        """Update the aggregates that were written to."""
        shifts = {
            stream: revision - self.plans[stream].revision
            for stream, revision in appended.revisions.items()
            # Those that were deleted, whose revisions continue from there.
            if revision != self.plans[stream].revision
        }
        for stream, each in self.plans.items():
            each.commit(appended.position, appended.revisions.get(stream))
        if shifts:
            for verdict in self.verdicts:
                if isinstance(verdict, JointlyWritten):
                    for stream in verdict.revisions.keys() & shifts.keys():
                        verdict.revisions[stream] += shifts[stream]

    def readers_of(self, streams: Iterable[str]) -> list[PendingCommand]:
        """Return the commands that read one of these streams."""
        moved = set(streams)
        if self.entity.stream in moved:
            return list(self.commands)
        return [
            each
            for each in self.commands
            if each.joint and any(other.stream in moved for other in each.joint.others)
        ]


def plan_jointly(
    entities: dict[str, Entity], commands: list[PendingCommand], writer: str, turn: Turn
) -> JointPlan:
    """Decide the first of `commands`, then further ones in order while the turn lasts.

    Pure: the entities are not changed. `entities` has every aggregate that one of the commands
    reads, the leading one first.
    """
    plans = {
        stream: Plan(entity, [], entity.state, entity.revision)
        for stream, entity in entities.items()
    }
    planned = JointPlan(plans, commands)
    [lead, *_] = plans.values()
    for at, each in enumerate(commands, 1):
        if each.joint is not None:
            planned.verdicts.append(_decide_jointly(planned, each, each.joint, writer))
        else:
            before = len(lead.records)
            verdict = decide(lead, each, writer)
            lead.verdicts.append(verdict)
            planned.verdicts.append(verdict)
            planned.records += lead.records[before:]
            planned.streams += [lead.entity.stream] * (len(lead.records) - before)
        if turn.over:
            planned.leave(at)
            break
    return planned


def _decide_jointly(
    planned: JointPlan, pending: PendingCommand, joint: JointDecision, writer: str
) -> JointlyWritten | JointlySeen | Outcome:
    envelope = pending.envelope
    plans = {each.stream: planned.plans[each.stream] for each in joint.instances}
    if (before := _before(planned, plans, envelope)) is not None:
        return before
    lead = plans[envelope.stream]
    wanted = envelope.expected_revision
    if wanted is not None and wanted != lead.revision:
        return RevisionMismatch(wanted, None if lead.revision < 0 else lead.revision)
    definition = joint.definition
    states = definition.states_for(joint.instances, lambda each: plans[each.stream].state)
    try:
        with Unchanged(definition.model, *(plan.state for plan in plans.values())):
            events = listed(definition.model.decide(states, pending.as_sent()))
            told = [
                (definition.instance_of(each, joint.instances, envelope.tenant), each)
                for each in events
            ]
            revisions = _revisions(plans, told)
            streams = encode(revisions).decode()
            keeps = lead.entity.aggregate.keep_commands
            records = [  # before the fold, which may change a list inside an event
                record(event, envelope, writer, index, streams, keeps=keeps)
                for index, (_, event) in enumerate(told)
            ]
            after = _fold(plans, told)
    except Refused as refusal:
        return refusal
    except (Exception, SystemExit) as error:
        return decision_failed(error, envelope, lead.revision)
    written = JointlyWritten(revisions)
    for stream in dict.fromkeys(at.stream for at, _ in told):
        plan = plans[stream]
        plan.state, plan.revision = after[stream], revisions[stream]
        plan.accepted[envelope.command_id] = (envelope.fingerprint, plan.revision)
    for (at, _), each in zip(told, records, strict=True):
        plans[at.stream].records.append(each)
        planned.records.append(each)
        planned.streams.append(at.stream)
    if events:
        planned.accepted[envelope.command_id] = (envelope.fingerprint, written)
    if planned.records:
        return written
    return Done(lead.revision, max(each.entity.position for each in plans.values()), revisions)


def _before(
    planned: JointPlan, plans: dict[str, Plan], envelope: Envelope
) -> JointlyWritten | JointlySeen | KeyReused | None:
    """Return the earlier outcome of the command if one of its streams already records it."""
    seen = {
        stream: found
        for stream, each in plans.items()
        if (found := each.entity.recent.get(envelope.command_id)) is not None
    }
    if seen:
        same = all(each.fingerprint == envelope.fingerprint for each in seen.values())
        return JointlySeen(seen) if same else KeyReused(envelope.command_id)
    accepted = planned.accepted.get(envelope.command_id)
    if accepted is not None:
        same = accepted[0] == envelope.fingerprint
        return accepted[1] if same else KeyReused(envelope.command_id)
    if any(envelope.command_id in each.accepted for each in plans.values()):
        return KeyReused(envelope.command_id)
    return None


def _revisions(plans: dict[str, Plan], told: list[tuple[Instance, Event]]) -> dict[str, int]:
    """Return the revision of every stream that was read, after these events."""
    revisions = {stream: each.revision for stream, each in plans.items()}
    for at, _ in told:
        revisions[at.stream] += 1
    return revisions


def _fold(plans: dict[str, Plan], told: list[tuple[Instance, Event]]) -> dict[str, Any]:
    """Return the state of every stream that was read, after these events."""
    states = {stream: each.state for stream, each in plans.items()}
    for at, event in told:
        states[at.stream] = at.aggregate.fold([event], states[at.stream])
    return states
