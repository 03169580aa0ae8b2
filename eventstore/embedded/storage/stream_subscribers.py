"""Live delivery to those who follow single streams.

The events of its stream are pushed to a follower, up to a bound; beyond that it must read from
disk. So a thousand followers of quiet streams cost nothing when another stream is busy, and a slow
follower holds at most that many events.
"""

import asyncio

from eventstore.embedded.storage.event import Event

_BOUND = 512


class Follower:
    """One follower's events since its last ``take``."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._events: list[Event] = []
        self._overflown = False
        self._has_news = asyncio.Event()

    def push(self, event: Event) -> None:
        """Add an event of a published commit."""
        if len(self._events) >= _BOUND:
            self._events.clear()
            self._overflown = True
        elif not self._overflown:
            self._events.append(event)
        self._has_news.set()

    async def take(self) -> list[Event] | None:
        """Wait for events; None means that there were too many: continue from disk."""
        await self._has_news.wait()
        self._has_news.clear()
        if self._overflown:
            self._overflown = False
            self._events = []
            return None
        events, self._events = self._events, []
        return events


class StreamSubscribers:
    """Followers by stream."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}

    def follow(self, stream: str) -> Follower:
        """Begin to collect events; call ``leave`` at the end."""
        follower = Follower(stream)
        self._followers.setdefault(stream, set()).add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Stop collecting events."""
        followers = self._followers.get(follower.stream)
        if followers is not None:
            followers.discard(follower)
            if not followers:
                del self._followers[follower.stream]

    def publish(self, events: list[Event]) -> None:
        """Push committed events to the followers of their streams."""
        if not self._followers:
            return
        for event in events:
            followers = self._followers.get(event.stream)
            if followers:
                for follower in followers:
                    follower.push(event)
