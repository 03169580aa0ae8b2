"""Replaying parked messages, at least once.

The real server truncates the parked stream as soon as it has read it, and loses the messages in
flight in a crash. Here ``$tb`` moves only past messages whose outcome (handled, or parked again) is
on disk; after a restart, the others are still parked.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from eventstore.embedded.persistent.errors import group_failed
from eventstore.embedded.persistent.message import Message, held
from eventstore.embedded.persistent.settings import GroupSettings
from eventstore.embedded.persistent.writes import TruncateParked
from eventstore.embedded.protocol.errors import RpcError
from eventstore.embedded.storage.links import target_of
from eventstore.embedded.storage.log_reader import LogReader
from eventstore.embedded.storage.operations import Operation

_PAGE = 500


class Replay:
    """Knows which parked entries are in flight."""

    def __init__(
        self,
        log: LogReader,
        submit: Callable[[Operation], "asyncio.Future[object]"],
        settings: GroupSettings,
    ) -> None:
        self._log = log
        self._submit = submit
        self._settings = settings
        self._stream = settings.parked_stream
        self._pending: OrderedDict[int, None] = OrderedDict()
        """Lowest revision first: the lowest is needed whenever one is finished."""
        self._until = 0

    def start(self, stop_at: int | None) -> list[Message]:
        """Return the messages of the parked stream before revision `stop_at`, and replay them."""
        if stop_at is not None and stop_at < 0:
            reason = "Cannot stop replaying parked message at a negative version."
            raise group_failed(self._settings.stream, self._settings.name, reason)
        info = self._log.info(self._stream)
        if not info.exists:
            return []
        first, last = self._log.window(info)
        at = max(first, self._until)
        end = last + 1 if stop_at is None else min(stop_at, last + 1)
        messages: list[Message] = []
        while at < end:
            entries = self._log.stream_events(info.sid, at, end - 1, _PAGE)
            if not entries:
                break
            for entry in entries:
                _, target = target_of(self._log, entry.record())
                if target is not None:
                    target = held(self._log, target)
                    messages.append(Message(entry, target, entry.revision, entry.revision))
                    self._pending[entry.revision] = None
            at = entries[-1].revision + 1
        self._until = max(self._until, end)
        if not self._pending:
            self._truncate()
        return messages

    def finished(self, revision: int) -> None:
        """Note that a replayed message has been handled, or parked again."""
        self._pending.pop(revision, None)
        if revision < self._done:
            self._truncate()

    @property
    def _done(self) -> int:
        """The revision up to which, excluding it, the outcomes are on disk."""
        return next(iter(self._pending), self._until)

    def _truncate(self) -> None:
        try:
            self._submit(TruncateParked(self._stream, self._done))
        except RpcError:
            return  # the store is stopping: the entries stay parked, and can be replayed again

    @property
    def running(self) -> bool:
        """Whether replayed messages are in flight."""
        return bool(self._pending)

    @property
    def parked_count(self) -> int:
        """Entries that are parked and not being replayed."""
        info = self._log.info(self._stream)
        if not info.exists:
            return 0
        first, last = self._log.window(info)
        return max(0, last - max(first, self._until) + 1)
