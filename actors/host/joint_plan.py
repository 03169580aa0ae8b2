"""What a group commit would do to several aggregates at once: decided, not yet written.

Decisions over several aggregates wait in the mailbox of the one that leads. Those that wait
together are decided one after the other, each on what the ones before it would leave behind, and
appended together: so the writer of a hot stream makes no conflicts with itself.
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
    """Done once the commit is durable; `revisions` has every stream that the decision read."""

    revisions: dict[str, int]


@dataclass(slots=True)
class JointlySeen:
    """A repeat: the command stands in these streams already."""

    seen: dict[str, Seen]


@dataclass(slots=True)
class JointPlan:
    """Commands of one mailbox, some of which are decisions over several aggregates.

    `plans` has a plan for each stream, the leading one first; see `Plan` for the rest.
    """

    plans: dict[str, Plan]
    commands: list[PendingCommand]
    verdicts: list[JointlyWritten | JointlySeen | Written | Seen | Outcome] = field(
        default_factory=list
    )
    records: list[NewRecord] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    """Of the records, in their order."""
    accepted: dict[str, tuple[str, JointlyWritten]] = field(default_factory=dict)

    @property
    def entity(self) -> Entity:
        """The aggregate that leads."""
        return next(iter(self.plans.values())).entity

    @property
    def entities(self) -> list[Entity]:
        """All aggregates of the plan."""
        return [each.entity for each in self.plans.values()]

    @property
    def is_unread(self) -> bool:
        """See `Plan.is_unread`: of any of the streams."""
        return any(each.entity.optimistic for each in self.plans.values()) and (
            self.is_unproven or any(isinstance(verdict, Exception) for verdict in self.verdicts)
        )

    @property
    def is_unproven(self) -> bool:
        """Tell whether there is a verdict that rests on what no append has checked."""
        return not self.records and not all(
            isinstance(verdict, JointlySeen | Seen | KeyReused) for verdict in self.verdicts
        )

    def leave(self, decided: int) -> None:
        """Do without the commands behind the first so many, and what they alone would read."""
        self.commands = self.commands[:decided]
        read = {self.entity.stream}
        for each in self.commands:
            if each.joint:
                read.update(instance.stream for instance in each.joint.instances)
        self.plans = {stream: plan for stream, plan in self.plans.items() if stream in read}

    def append(self) -> JointAppend:
        """Return all records, with a check of every stream that was read."""
        expected = {stream: each.entity.expected for stream, each in self.plans.items()}
        return JointAppend(expected, list(zip(self.streams, self.records, strict=True)))

    def commit(self, appended: JointlyAppended) -> None:
        """Move the aggregates on that were written to."""
        shifts = {
            stream: revision - self.plans[stream].revision
            for stream, revision in appended.revisions.items()
            if revision != self.plans[stream].revision  # it was deleted, and goes on from there
        }
        for stream, each in self.plans.items():
            each.commit(appended.position, appended.revisions.get(stream))
        if shifts:
            for verdict in self.verdicts:
                if isinstance(verdict, JointlyWritten):
                    for stream in verdict.revisions.keys() & shifts.keys():
                        verdict.revisions[stream] += shifts[stream]

    def readers_of(self, streams: Iterable[str]) -> list[PendingCommand]:
        """Return the commands that read one of these."""
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
    """Decide on the first of `commands`, and on those that the turn has the time for, in order.

    Pure: the entities are left as they are. `entities` has all that one of the commands reads, the
    leading one first.
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
    states = {each.name: plans[each.stream].state for each in joint.instances}
    try:
        with Unchanged(joint.definition.model, *states.values()):
            events = listed(joint.definition.model.decide(states, pending.as_sent()))
            told = [
                (joint.definition.instance_of(each, joint.instances, envelope.tenant), each)
                for each in events
            ]
            revisions = _revisions(plans, told)
            streams = encode(revisions).decode()
            keeps = lead.entity.aggregate.keep_commands
            records = [  # before the fold, which may change a list in an event
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
    """Return what became of the command already, if it stands in one of its streams."""
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
    """Return the revisions after the events, of every stream that was read."""
    revisions = {stream: each.revision for stream, each in plans.items()}
    for at, _ in told:
        revisions[at.stream] += 1
    return revisions


def _fold(plans: dict[str, Plan], told: list[tuple[Instance, Event]]) -> dict[str, Any]:
    """Return the states after the events, of every stream that was read."""
    states = {stream: each.state for stream, each in plans.items()}
    for at, event in told:
        states[at.stream] = at.aggregate.fold([event], states[at.stream])
    return states
