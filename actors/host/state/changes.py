"""The changes to an aggregate's rows: those of a plan, or a full rewrite from the log."""

from __future__ import annotations

from typing import NamedTuple

from actors.host.entity import Entity
from actors.host.plan import Plan
from actors.host.recent_commands import ALWAYS_REMEMBERED
from actors.host.state.port import Change, KeptCommand
from eventstore.port import Appended

FORGOTTEN_TOGETHER = 64
"""How many of an aggregate's remembered commands are forgotten at a time."""


class Stored(NamedTuple):
    """What the rows of a loaded aggregate hold, beyond its entity.

    `version` is -1 if there are no rows. `commands` counts all commands ever seen, `oldest` is the
    number of the first that is kept. `whole`: all rows must be rewritten.
    """

    version: int
    began: int
    state: object
    commands: int
    oldest: int
    whole: bool


NOTHING = Stored(-1, 0, None, 0, 0, True)


def change_of(planned: Plan) -> Change:
    """Return what a plan writes to the rows.

    If the rows are behind the log or were never written, the commands come from the fold.
    """
    entity, stored = planned.entity, planned.entity.stored or NOTHING
    at = entity.recent.now()
    accepted = [
        (command_id, fingerprint, revision, at)
        for command_id, (fingerprint, revision) in planned.accepted.items()
    ]
    if stored.whole:
        latest = entity.recent.latest(ALWAYS_REMEMBERED)
        accepted = [(known, seen[0], seen[1], seen.at) for known, seen in latest] + accepted
        number, forget = 0, -1
    else:
        number = stored.commands
        remembered = len(entity.recent)
        due = number - remembered - stored.oldest
        forget = number - remembered - 1 if due >= FORGOTTEN_TOGETHER else -1
    return Change(
        entity.aggregate,
        entity.stream,
        stored.version,
        planned.revision,
        stored.began,
        None if stored.whole else stored.state,
        planned.state,
        planned.records,
        [KeptCommand(number + place, *each) for place, each in enumerate(accepted)],
        forget,
        whole=stored.whole,
    )


def stored_after(planned: Plan, change: Change, answer: Appended) -> Stored:
    """Return what the rows hold after the change."""
    shift = 0 if answer.last_revision is None else answer.last_revision - change.version
    last = change.commands[-1].number + 1 if change.commands else 0
    before: Stored = planned.entity.stored or NOTHING
    oldest = 0 if change.whole else max(before.oldest, change.forget_up_to + 1)
    return Stored(change.version + shift, change.began + shift, change.state, last, oldest, False)


def rewritten(entity: Entity, expected: int, began: int) -> Change:
    """Return a change that rewrites the rows from the entity and empties the outbox."""
    latest = entity.recent.latest(ALWAYS_REMEMBERED)
    return Change(
        entity.aggregate,
        entity.stream,
        expected,
        entity.revision,
        began,
        None,
        entity.state,
        commands=[
            KeptCommand(number, known, seen.fingerprint, seen.revision, seen.at)
            for number, (known, seen) in enumerate(latest)
        ],
        whole=True,
        empties_outbox=True,
    )


def expected(change: Change) -> int | None:
    """Return the expected revision for appending a change's events; None if they are the first."""
    before = change.version - len(change.records)
    return before if before >= 0 else None
