"""Decides recorded commands again with the current code, and compares the results with the log.

The log is walked once, in its order. Each command is decided on the recorded states of that moment,
whatever was decided before it: a difference does not cause others.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from deploy.authoring.counterfactual.deciding_again import (
    Broken,
    Decided,
    Rejection,
    Told,
    decide,
    instances_of,
    told,
)
from deploy.authoring.counterfactual.drawn import says, without_drawn
from deploy.authoring.counterfactual.recorded_commands import (
    OUR_PREFIXES,
    RecordedCommand,
    RecordedCommands,
)
from deploy.authoring.counterfactual.states_then import (
    MOST,
    Folded,
    HistoryGone,
    HistoryUnreadable,
    StatesThen,
)
from eventstore.deletions import deleted_stream, is_of_the_server, with_deletions
from eventstore.port import Log
from eventstore.records import Metadata, RawRecord, recorded
from rayfold import Registry
from rayfold.decision import Instance
from rayfold.foreign_json import UNREADABLE, readable
from rayfold.keys import key_text
from rayfold.process_instance import stamped

COMMAND_GONE = "command_gone"
PAYLOAD_INVALID = "payload_invalid"
HISTORY_GONE = "history_gone"
HISTORY_UNREADABLE = "history_unreadable"


@dataclass
class Finding:
    """A command whose result would differ now, or that cannot be decided, and why."""

    raw: RawRecord
    command_id: str
    command: RecordedCommand
    recorded: Sequence[RawRecord]
    now: Decided | None = None
    undecidable: str = ""
    reason: str = ""
    perhaps_rewritten: bool = False
    """Whether the domain's middleware may have rewritten the command before it was decided."""

    def as_json(self) -> dict[str, Any]:
        """Return it as data for a line of JSON."""
        metadata = Metadata(self.raw.metadata)
        at = self.raw.recorded_at
        return {
            "position": self.raw.position,
            "stream": self.raw.stream,
            "revision": self.raw.revision,
            "command": self.command.name,
            "payload": readable(self.command.payload),
            "command_id": self.command_id,
            "principal": metadata.get("principal", ""),
            "recorded_at": key_text(at) if at else None,
            "verdict": "not decidable" if self.undecidable else "different",
            "recorded": [
                {
                    "stream": each.stream,
                    "revision": each.revision,
                    "type": each.event_type,
                    "data": readable(each.data),
                }
                for each in self.recorded
            ],
            **({"perhaps_rewritten": True} if self.perhaps_rewritten else {}),
            **self._now(),
        }

    def _now(self) -> dict[str, Any]:
        match self.now:
            case None:
                return {"why": self.undecidable, "reason": self.reason}
            case Rejection(rule, detail):
                return {"now": {"rejected": rule, "detail": detail}}
            case Broken(error):
                return {"now": {"error": error}}
            case events:
                return {
                    "now": {
                        "events": [
                            {"stream": stream, "type": kind, "data": each.data}
                            for each in events
                            for stream, kind in [each.kind]
                        ]
                    }
                }


@dataclass
class Summary:
    """Counts of commands; `foreign_events` are events that no command of ours caused."""

    same: int = 0
    different: int = 0
    not_decidable: dict[str, int] = field(default_factory=dict)
    not_kept: int = 0
    foreign_events: int = 0

    @property
    def decided(self) -> int:
        """The number of commands decided again."""
        return self.same + self.different

    @property
    def says_nothing(self) -> bool:
        """Whether there were commands, but none could be decided: the result then means nothing."""
        return not self.decided and bool(self.not_kept or self.not_decidable)

    def as_json(self) -> dict[str, Any]:
        """Return it as data for a line of JSON."""
        return {
            "decided": self.decided,
            "same": self.same,
            "different": self.different,
            "not_decidable": self.not_decidable,
            "not_kept": self.not_kept,
            "foreign_events": self.foreign_events,
            "rejected_then": "not on the log",
        }


class Counterfactual:
    """Reads the log, and writes nothing. `summary` is complete when `findings` has ended."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        *,
        since: int | None = None,
        category: str | None = None,
        most: int = MOST,
    ) -> None:
        """Decide commands after position `since`, of one category's aggregates or of all.

        At most `most` states are kept.
        """
        self._registry = registry
        self._log = log
        self._since = since
        self._category = category
        self._states = StatesThen(registry, log, most)
        self._commands = RecordedCommands()
        self._rewrites = any(each.has("command") for each in registry.middleware.values())
        self.summary = Summary()

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield the findings in the log's order.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        if self._since is not None:
            async with aclosing(self._log.read_all(OUR_PREFIXES)) as records:
                async for raw in records:
                    if raw.position > self._since:
                        break
                    self._commands.note(raw)
        async with aclosing(self._runs()) as runs:
            async for run in runs:
                for group in _by_command(run):
                    if (finding := await self._compare(group)) is not None:
                        yield finding
                    for raw in group:
                        self._states.fold(raw)

    async def _runs(self) -> AsyncGenerator[list[RawRecord], None]:
        """Yield the domain's events, grouped by group commit."""
        prefixes = self._prefixes()
        # Events that a running stack appends meanwhile are left for the next run.
        end = await self._log.end_position(prefixes)
        run: list[RawRecord] = []
        writer = ""
        read = [*with_deletions(prefixes), *OUR_PREFIXES]
        async with aclosing(self._log.read_all(read, after=self._since)) as records:
            async for raw in records:
                if raw.position > end:
                    break
                gone = deleted_stream(raw)
                ours = raw.stream.startswith(tuple(OUR_PREFIXES))
                if gone is None and not ours and is_of_the_server(raw):
                    continue
                by = "" if gone or ours else Metadata(raw.metadata).get("writer", "")
                if run and (not by or by != writer):
                    yield run
                    run = []
                writer = by
                if gone is not None:
                    self._states.deleted(gone)
                elif ours:
                    self._commands.note(raw)
                else:
                    run.append(raw)
        if run:
            yield run

    def _prefixes(self) -> list[str]:
        # A decision that writes to the category may also lead and write in others.
        together = {each.category for each in self._registry.decided_together}
        if self._category is None or self._category in together:
            return self._registry.prefixes
        return [f"{self._category}-"]

    async def _compare(self, group: list[RawRecord]) -> Finding | None:
        if self._category and all(not _is_of(self._category, raw) for raw in group):
            return None
        first = group[0]
        metadata = Metadata(first.metadata)
        command_id = metadata.get("commandId", "")
        if not command_id:
            self.summary.foreign_events += len(group)
            return None
        command = self._commands.of(command_id, metadata)
        if command is None:
            self.summary.not_kept += 1
            return None
        finding = Finding(first, command_id, command, group)
        finding.perhaps_rewritten = self._rewrites and command.as_sent
        if not await self._decide(finding):
            return None
        if finding.undecidable:
            count = self.summary.not_decidable.get(finding.undecidable, 0)
            self.summary.not_decidable[finding.undecidable] = count + 1
            return finding
        if finding.now is None:
            self.summary.same += 1
            return None
        self.summary.different += 1
        return finding

    async def _decide(self, finding: Finding) -> bool:
        """Decide the command again; leave `now` empty if the result equals the recorded one.

        Returns False if its first events are before the requested ones.
        """
        definition = self._registry.commands.get(finding.command.name)
        if definition is None:
            finding.undecidable = COMMAND_GONE
            finding.reason = f"the domain has no command {finding.command.name!r}"
            return True
        try:
            command = definition.decode(finding.command.payload)
        except (Exception, SystemExit) as error:  # also errors in the domain's validator
            told = str(error) if isinstance(error, ValidationError) else repr(error)
            finding.undecidable = PAYLOAD_INVALID
            finding.reason = " ".join(told.split())
            return True
        try:
            tenant = self._registry.tenant_of(finding.raw.stream)
            instances = instances_of(self._registry, command, tenant)
        except (Exception, SystemExit) as error:
            finding.now = Broken(f"{type(error).__name__}: {error}")
            return True
        try:
            found = [await self._state(each, finding) for each in instances]
            then = [each for raw in finding.recorded for each in self._told(raw)]
        except HistoryGone as error:
            finding.undecidable, finding.reason = HISTORY_GONE, str(error)
            return True
        except HistoryUnreadable as error:
            finding.undecidable, finding.reason = HISTORY_UNREADABLE, str(error)
            return True
        if any(each.last == finding.command_id for each in found):
            return False
        states = [each.state for each in found]
        again = command
        if finding.command.untimed and (at := finding.raw.recorded_at):
            # The time is close to when it was sent; values derived from it differ the second time,
            # and so are not compared.
            command, again = stamped(command, at), stamped(command, at + timedelta.resolution)
        now = decide(self._registry, command, instances, states)
        if not _is_same(then, now):
            now = _without_drawn(now, decide(self._registry, again, instances, states))
            if not _is_same(then, now):
                finding.now = now
        return True

    async def _state(self, instance: Instance, finding: Finding) -> Folded:
        before = _before(finding, instance.stream)
        position = finding.raw.position
        return await self._states.of(instance.aggregate, instance.stream, before, position)

    def _told(self, raw: RawRecord) -> list[Told]:
        """Return a recorded event as the current code reads and would write it."""
        try:
            return [told(raw.stream, event) for event, *_ in recorded(self._registry, raw)]
        except (Exception, SystemExit) as error:  # also errors in an upcaster
            raise HistoryUnreadable(f"{raw.revision}@{raw.stream}: {error}") from error


def _by_command(run: list[RawRecord]) -> list[list[RawRecord]]:
    groups: dict[str, list[RawRecord]] = {}
    for raw in run:
        groups.setdefault(Metadata(raw.metadata).get("commandId", ""), []).append(raw)
    return list(groups.values())


def _is_of(category: str, raw: RawRecord) -> bool:
    return raw.stream.startswith(f"{category}-")


def _before(finding: Finding, stream: str) -> int | None:
    """Return the stream's revision when the command was decided."""
    for raw in finding.recorded:
        if raw.stream == stream:
            return raw.revision
    try:
        after = json.loads(Metadata(finding.raw.metadata)["streams"])[stream]
        return int(after) + 1
    except (LookupError, TypeError, OverflowError, *UNREADABLE):  # metadata of another client
        return None


def _without_drawn(now: Decided, again: Decided) -> Decided:
    """Return the result `now`, without drawn values: those that differ from `again`."""
    if not isinstance(now, list) or not isinstance(again, list) or _kinds(now) != _kinds(again):
        return now
    return [
        one._replace(data=without_drawn(one.event, one.data, two.data))
        for one, two in zip(now, again, strict=True)
    ]


def _is_same(then: list[Told], now: Decided) -> bool:
    return (
        isinstance(now, list)
        and _kinds(then) == _kinds(now)
        and all(says(one.data, was.data) for was, one in zip(then, now, strict=True))
    )


def _kinds(events: list[Told]) -> list[tuple[str, str]]:
    return [each.kind for each in events]
