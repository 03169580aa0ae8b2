"""What the log says of what clients were promised.

A program of its own, run on a host: threads that gRPC has started before in the tests' process
would connect from where that one is.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from eventstore.kurrentdb.log import EventLog
from eventstore.records import metadata_of
from tests.hosts.host import Host
from tests.hosts.load import Receipt


def audit(
    host: Host, eventstore: str, receipts: Sequence[Receipt]
) -> tuple[list[Receipt], list[str]]:
    """Return what `compare` does, as seen from a host."""
    promised = host.folder / "receipts.json"
    promised.write_text(json.dumps([astuple(each) for each in receipts]))
    said = host.run("audit", sys.executable, "-m", __name__, eventstore, str(promised))
    lost, doubled = json.loads(said)
    return [Receipt(*each) for each in lost], doubled


async def compare(eventstore: str, receipts: Sequence[Receipt]) -> tuple[list[Receipt], list[str]]:
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


if __name__ == "__main__":
    promised = [Receipt(*each) for each in json.loads(Path(sys.argv[2]).read_text())]
    lost, doubled = asyncio.run(compare(sys.argv[1], promised))
    print(json.dumps([[astuple(each) for each in lost], doubled]))
