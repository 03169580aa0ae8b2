"""Turns records into changed rows: every store folds through it.

A poison event stops its own key and no other. One that cannot be decoded stops its stream, since
its key is unknown; one on which a view's fold fails stops that row of that view. Later events for
them are held back: they would be folded onto a row that lacks something. A view can instead be
declared to stop as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from eventstore.deletions import is_of_the_server
from eventstore.records import RawRecord, recorded
from projections.erasure import Erasures
from projections.parked_pages import in_order
from projections.partitions import AlreadyProjected
from projections.poison import NAMED, Discarded, Held, Parked, in_status, park
from rayfold import (
    Event,
    OnPoison,
    RecordedEvent,
    Registry,
    UnknownEventType,
    UnreadableEvent,
    VersionedRow,
    ViewDefinition,
    key_text,
)


class Step(NamedTuple):
    """An event that concerns a row of a view. Keys are text in every store."""

    view: ViewDefinition
    key: str
    event: RecordedEvent
    value: Any
    """The key as it is in the event."""
    also: tuple[Event, ...] = ()
    """Further events of the same record for the same row: upcasters may make several of one."""
    erases: bool = False
    """The row's stream was deleted: the row is removed, with what is parked of it."""


class Noted(NamedTuple):
    """What was parked or held while folding, to be stored together with the rows."""

    parked: list[Parked]
    held: list[Held]
    stopped: list[Parked]
    released: list[Parked]
    """No longer parked: their stream was deleted."""


class Folding:
    """Finds the rows that each event concerns and folds it into them, for some views."""

    def __init__(self, registry: Registry, views: Sequence[ViewDefinition]) -> None:
        self._registry = registry
        self._views = list(views)
        self._rows: dict[tuple[str, str], Parked] = {}
        """Parked rows by view and key, in the log's order of the events that failed."""
        self._streams: dict[tuple[str, str], Parked] = {}
        """Streams that are parked as a whole, by view and stream name."""
        self._listed: dict[bool, list[Parked]] = {}
        """The cache of `listed`, until something changes."""
        self._noted = Noted([], [], [], [])
        self.stopped: dict[str, Parked] = {}
        """Views that stopped as a whole, with the event."""
        self.discarded: frozenset[Discarded] = frozenset()
        """Events that are not folded: see `projections.discarded_events`."""
        self._covered: dict[str, AlreadyProjected] = {}
        self._covered_until = 0
        self.left_out = 0
        self._erasures = Erasures(registry, views)
        self._concerned = {
            event.model: [view for view in views if event.model in view.folds]
            for event in registry.events.values()
        }
        self._by_name = {
            event.name: self._concerned[event.model]
            for event in registry.events.values()
            if not registry.is_upcast(event.name)  # otherwise it may be another event today
        }

    def steps(self, raw: RawRecord) -> list[Step]:
        """Return a step for each row that the event concerns."""
        known = self._by_name.get(raw.event_type)
        if known is None and is_of_the_server(raw):
            return self._erasing(raw)
        views = self._may_concern(raw) if known is None else known
        if not views:
            return []
        if raw.position <= self._covered_until:
            views = [view for view in views if not self._is_covered(view, None, raw)]
        if self._streams or self.stopped:
            views = [view for view in views if not self._stream_is_held(view, raw)]
        if not views:
            return []
        try:
            events = recorded(self._registry, raw)
        except (UnknownEventType, UnreadableEvent) as error:
            for view in views:
                if not self._is_discarded(view, "", raw):
                    self._stop_at(view, "", raw, error)
            return []
        steps = [step for event in events for step in self._steps_of(event, raw)]
        if len(events) > 1:
            steps = _together(steps)
        return steps

    def _may_concern(self, raw: RawRecord) -> list[ViewDefinition]:
        may_be = self._registry.may_be
        return [each for each in self._views if may_be(raw.event_type, raw.stream, each.folds)]

    def _erasing(self, raw: RawRecord) -> list[Step]:
        """Return steps for the rows that are removed because their stream was deleted."""
        erased = self._erasures.of(raw)
        if erased is None:
            return []
        steps = []
        no_event: Any = None
        at = RecordedEvent(no_event, raw.stream, raw.revision, raw.position, {})
        for view in erased.views:
            if view.name in self.stopped or self._is_covered(view, None, raw):
                continue
            self._release_stream(view.name, erased.stream)
            if view in erased.own and not self._is_covered(view, erased.key, raw):
                self._release_row(view.name, erased.key)
                steps.append(Step(view, erased.key, at, erased.key, erases=True))
        return steps

    def _steps_of(self, event: RecordedEvent, raw: RawRecord) -> Iterator[Step]:
        seen: Any = None
        text = prefix = ""
        tenants = self._registry.tenants
        for view in self._concerned.get(type(event.event), ()):
            if view.name in self.stopped or self._is_parked(view, raw):
                continue
            if raw.position <= self._covered_until and self._is_covered(view, None, raw):
                continue
            try:
                keys = view.keys_of(event.event)
                if tenants and keys:
                    prefix = prefix or view.prefix_of(event.stream)
                texts = []
                for key in keys:
                    if key is not seen:  # most views of an event have the same key
                        seen, text = key, key_text(key)
                    if not text:
                        raise ValueError("a row's key is empty")
                    texts.append(prefix + text if prefix else text)
            except (Exception, SystemExit) as error:  # the domain's code may raise anything
                if not self._is_discarded(view, "", raw):
                    self._stop_at(view, "", raw, error)
                continue
            pairs = zip(texts, keys, strict=True)
            for each, key in pairs if len(texts) == 1 else dict(pairs).items():
                if raw.position <= self._covered_until and self._is_covered(view, each, raw):
                    continue
                if self.discarded and self._is_discarded(view, each, raw):
                    continue
                if self._rows and (view.name, each) in self._rows:
                    self.hold(view, each, raw)
                else:
                    yield Step(view, each, event, key)

    def fold(self, step: Step, before: VersionedRow | None) -> VersionedRow | None:
        """Return the row after the event; unchanged if the event fails on it or must wait."""
        view, key, event, value, also, erases = step
        stopped = self.stopped.get(view.name) if self.stopped else None
        if stopped is not None and event.position >= stopped.position:
            return before  # earlier events of the same batch are folded all the same
        if erases:
            self._release_row(view.name, key)
            return None
        if self._rows and (view.name, key) in self._rows:
            self.hold(view, key, event)
            return before
        try:
            return view.fold(before, event, value, also)
        except (Exception, SystemExit) as error:  # the domain's code may raise anything
            self.broke(step, error)
            return before

    def fold_row(
        self, raw: RawRecord, key: str, before: VersionedRow | None
    ) -> VersionedRow | None:
        """Return the row of one key after a record that may concern others too; see `fold`."""
        row = before
        for step in self.steps(raw):
            if step.key == key:
                row = self.fold(step, row)
        return row

    def broke(self, step: Step, error: BaseException, *, by_store: bool = False) -> None:
        """Park the step's row, or stop its view: the fold or the store failed on the event."""
        self._stop_at(step.view, step.key, step.event, error, by_store=by_store)

    @property
    def has_noted(self) -> bool:
        """Whether anything was noted since the last `take_noted`."""
        return any(self._noted)

    def take_noted(self) -> Noted:
        """Return what was noted since the last call."""
        noted, self._noted = self._noted, Noted([], [], [], [])
        return noted

    def undo(self, noted: Noted) -> None:
        """Undo what was noted: the rows that belong to it were not stored either."""
        for parked in noted.parked:
            self.release(parked)
        for parked in noted.released:
            self.park(parked)
        for parked in noted.stopped:
            self.stopped.pop(parked.view, None)
        self.left_out -= len(noted.held)

    @property
    def parked(self) -> list[Parked]:
        """The parked rows and streams."""
        return [*self._streams.values(), *self._rows.values()]

    def listed(self, *, streams: bool = True) -> Sequence[Parked]:
        """Return what is parked and where views stopped, `in_order`; without `streams` if False.

        There may be as many as rows, and operators read them page by page.
        """
        listed = self._listed.get(streams)
        if listed is None:
            kept = self.parked if streams else self._rows.values()
            listed = self._listed[streams] = in_order(kept)
        return in_order([*listed, *self.stopped.values()]) if self.stopped else listed

    def told_of_parked(self, *, streams: bool = True) -> dict[str, Any]:
        """Return the number of parked rows and the first of them, for a status.

        A status is read twice a second, so this does not go through all of them: there may be as
        many as rows.
        """
        kept = [self._streams, self._rows] if streams else [self._rows]
        first = [each for places in kept for each in islice(places.values(), NAMED)]
        return {"parked": sum(map(len, kept)), **in_status([*first, *self.stopped.values()])}

    def parked_row(self, view: str, key: str) -> Parked | None:
        """Return the event at which a row is parked; None if it is not."""
        return self._rows.get((view, key))

    def park(self, parked: Parked) -> None:
        """Hold back events of that row or stream from now on."""
        self._listed.clear()
        if parked.key:
            self._rows.setdefault((parked.view, parked.key), parked)
        else:
            self._streams.setdefault((parked.view, parked.stream), parked)

    def cover(self, view: str, covered: AlreadyProjected) -> None:
        """Skip these events: the view's rows include them."""
        self._covered[view] = covered
        self._covered_until = max(self._covered_until, covered.most)

    def hold(self, view: ViewDefinition, key: str, at: RawRecord | RecordedEvent) -> None:
        """Hold an event behind its row's parked one."""
        self.left_out += 1
        self._noted.held.append(Held(view.name, key, at.stream, at.revision, at.position))

    def release(self, parked: Parked) -> None:
        """Fold events of that row or stream again."""
        self._listed.clear()
        if parked.key:
            self._rows.pop((parked.view, parked.key), None)
        else:
            self._streams.pop((parked.view, parked.stream), None)

    def replayed(self, parked: Parked, again: Sequence[Parked]) -> None:
        """Park what failed again in a replay of a parked row; else let the row's events be folded.

        A row that failed again keeps its place in the order.
        """
        row = parked.view, parked.key
        broke = next((each for each in again if (each.view, each.key) == row), None)
        if broke is None:
            self.release(parked)
        else:
            self._rows[row] = broke
        for each in again:
            self.park(each)

    def _release_row(self, view: str, key: str) -> None:
        """Forget that the row is parked, and what waits behind it."""
        parked = self._rows.get((view, key))
        if parked is None:
            return
        self._forget(parked)
        held = [each for each in self._noted.held if (each.view, each.key) != (view, key)]
        self.left_out -= len(self._noted.held) - len(held)
        self._noted.held[:] = held

    def _release_stream(self, view: str, stream: str) -> None:
        """Forget that the stream is parked."""
        parked = self._streams.get((view, stream))
        if parked is not None:
            self._forget(parked)

    def _forget(self, parked: Parked) -> None:
        self.release(parked)
        if parked in self._noted.parked:
            self._noted.parked.remove(parked)
        else:
            self._noted.released.append(parked)

    def adopt(self, view: str, fresh: Folding) -> None:
        """Replace what is parked of the view by what `fresh` has parked.

        Also what was discarded: the event may not have arrived here yet.
        """
        self.discarded |= fresh.discarded
        self._listed.clear()
        self._rows = {at: parked for at, parked in self._rows.items() if at[0] != view}
        self._streams = {at: parked for at, parked in self._streams.items() if at[0] != view}
        self._covered.pop(view, None)
        self.stopped.pop(view, None)
        self.stopped.update(fresh.stopped)
        for parked in fresh.parked:
            self.park(parked)
        self._rows = dict(sorted(self._rows.items(), key=lambda row: row[1].position))

    def _is_discarded(self, view: ViewDefinition, key: str, raw: RawRecord) -> bool:
        return Discarded(view.name, key, raw.stream, raw.revision) in self.discarded

    def _stop_at(
        self,
        view: ViewDefinition,
        key: str,
        at: RawRecord | RecordedEvent,
        error: BaseException,
        *,
        by_store: bool = False,
    ) -> None:
        parked = park(view.on_poison, view.name, key, at, error, by_store=by_store)
        if view.on_poison is OnPoison.STOP:
            first = self.stopped.get(view.name)
            # A whole batch is decoded before any of it is folded, so a fold may fail on an earlier
            # event.
            if first is None or parked.position < first.position:
                self.stopped[view.name] = parked
                others = [each for each in self._noted.stopped if each.view != view.name]
                self._noted.stopped[:] = [*others, parked]
        else:
            self.park(parked)
            self._noted.parked.append(parked)

    def _stream_is_held(self, view: ViewDefinition, raw: RawRecord) -> bool:
        if view.name in self.stopped:
            return True
        if not self._is_parked(view, raw):
            return False
        self.left_out += 1
        return True

    def _is_parked(self, view: ViewDefinition, raw: RawRecord) -> bool:
        # An event that another, faster partition has parked further on does not hold anything yet.
        parked = self._streams.get((view.name, raw.stream))
        return parked is not None and raw.position >= parked.position

    def _is_covered(self, view: ViewDefinition, key: str | None, raw: RawRecord) -> bool:
        """Return whether the row includes the event already; without a key, whether all rows do."""
        covered = self._covered.get(view.name)
        if covered is None:
            return False
        return raw.position <= covered.least if key is None else covered.has(key, raw.position)


def _together(steps: list[Step]) -> list[Step]:
    """Return one step for each row that a record concerns, with all of its events."""
    rows: dict[tuple[str, str], Step] = {}
    for step in steps:
        row = step.view.name, step.key
        first = rows.get(row)
        rows[row] = step if first is None else first._replace(also=(*first.also, step.event.event))
    return list(rows.values())
