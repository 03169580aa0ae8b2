"""``kill -9`` under concurrent appends: nothing acknowledged is lost, nothing is there twice.

A few kills by default; ``RAYFOLD_CRASH_KILLS=50`` for as many as the issue asks for.
"""

import os
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.events import NewRecord
from kurrentdbclient.exceptions import KurrentDBClientError

from tests.contract.eventstore.making import until
from tests.contract.eventstore.process import ServerProcess

KILLS = int(os.environ.get("RAYFOLD_CRASH_KILLS", "4"))
WRITERS = 6


@dataclass
class Written:
    """What one writer sent, and what it was told is safe."""

    stream: str
    other: str
    sent: list[list[uuid.UUID]] = field(default_factory=list)
    acknowledged: set[uuid.UUID] = field(default_factory=set)
    unanswered: list[NewEvent] = field(default_factory=list)

    def write(self, uri: str, stop: threading.Event) -> None:
        """Append until the server dies under us; the last append's outcome is then unknown."""
        with KurrentDBClient(uri) as client:
            while not stop.is_set():
                batch = self.unanswered or [
                    NewEvent(type="Happened", data=b"{}") for _ in range(len(self.sent) % 3 + 1)
                ]
                if not self.unanswered:
                    self.sent.append([event.id for event in batch])
                self.unanswered = batch
                try:
                    self.append(client, batch)
                except (KurrentDBClientError, ValueError):
                    return
                self.acknowledged |= {event.id for event in batch}
                self.unanswered = []

    def append(self, client: KurrentDBClient, batch: list[NewEvent]) -> None:
        """Every other writer uses v2, over two streams at once."""
        if self.other:
            records = [
                NewRecord(name, event.type, event.data, id=event.id)
                for event in batch
                for name in (self.stream, self.other)
            ]
            client.append_records(records, timeout=5)
        else:
            client.append_to_stream(
                self.stream, current_version=StreamState.ANY, events=batch, timeout=5
            )


def test_kills(start: Callable[..., ServerProcess]) -> None:
    chance = random.Random(7)
    writers = [Written(f"w-{n}", f"o-{n}" if n % 2 else "") for n in range(WRITERS)]
    lost = twice = 0
    for _ in range(KILLS):
        server = start()
        stop = threading.Event()
        threads = [
            threading.Thread(target=writer.write, args=(server.uri, stop)) for writer in writers
        ]
        goal = sum(len(w.acknowledged) for w in writers) + chance.randrange(20, 200)
        for thread in threads:
            thread.start()
        until(lambda goal=goal: sum(len(w.acknowledged) for w in writers) >= goal, 60)
        server.kill()
        stop.set()
        for thread in threads:
            thread.join(60)
        survivor = start()
        with KurrentDBClient(survivor.uri) as client:
            for writer in writers:
                missing, repeated = check(client, writer)
                lost += missing
                twice += repeated
            positions = [event.commit_position or 0 for event in client.read_all()]
            assert positions == sorted(set(positions))
        survivor.kill()
    total = sum(len(writer.acknowledged) for writer in writers)
    print(f"{KILLS} kills, {total} acknowledged, {lost} lost, {twice} duplicated")
    assert (lost, twice) == (0, 0)


def check(client: KurrentDBClient, writer: Written) -> tuple[int, int]:
    """Lost and repeated events, after resending what had no answer."""
    if writer.unanswered:
        writer.append(client, writer.unanswered)
        writer.acknowledged |= {event.id for event in writer.unanswered}
        writer.unanswered = []
    missing = repeated = 0
    for stream in filter(None, (writer.stream, writer.other)):
        if not writer.sent:
            continue
        events = client.get_stream(stream)
        assert [event.stream_position for event in events] == list(range(len(events)))
        ids = [event.id for event in events]
        # In the order sent, each batch whole: that is atomicity.
        assert ids == [event_id for batch in writer.sent for event_id in batch]
        missing += len(writer.acknowledged - set(ids))
        repeated += len(ids) - len(set(ids))
    return missing, repeated
