"""What the log says of what clients were promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eventstore.kurrentdb.log import EventLog
from eventstore.records import metadata_of
from tests.hosts.load import Receipt


async def audit(eventstore: str, receipts: Sequence[Receipt]) -> tuple[list[Receipt], list[str]]:
    """Return receipts whose event is not where they say, and commands that count twice.

    Every command of the load has one event.
    """
    log = EventLog(eventstore)
    places: dict[tuple[str, int], str] = {}
    written: Counter[str] = Counter()
    for stream in {receipt.stream for receipt in receipts}:
        async for event in log.read_stream(stream):
            command = metadata_of(event)["commandId"]
            places[stream, event.revision] = command
            written[command] += 1
    await log.close()
    lost = [each for each in receipts if places.get((each.stream, each.revision)) != each.command]
    return lost, [command for command, count in written.items() if count > 1]
