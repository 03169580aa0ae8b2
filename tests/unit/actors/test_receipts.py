"""The receipt of what was written before is found by who wrote it, however its metadata looks."""

from __future__ import annotations

from uuid import uuid4

import pytest

from actors.envelope import Done
from actors.host.receipts import joint_receipt, receipt_position
from actors.host.recent_commands import Seen
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord


class SpacedLog(MemoryLog):
    """Writes metadata as JSON with spaces, as another server may."""

    async def read_stream(self, stream, **options):  # type: ignore[no-untyped-def]
        async for raw in super().read_stream(stream, **options):
            yield raw._replace(metadata=raw.metadata.replace(b'":"', b'": "'))

    async def read_all(self, prefixes, **options):  # type: ignore[no-untyped-def]
        async for raw in super().read_all(prefixes, **options):
            yield raw._replace(metadata=raw.metadata.replace(b'":"', b'": "'))


@pytest.mark.parametrize("log", [MemoryLog(), SpacedLog()], ids=["compact", "spaced"])
@pytest.mark.parametrize(
    ("writers", "last"),
    [(["a/1", "a/1", "a/2"], 2), ([None, None, None], 1)],
    ids=["ours", "others"],
)
async def test_a_receipt_ends_with_its_own_commit(
    log: MemoryLog, writers: list[str | None], last: int
) -> None:
    before = await log.end_position(None)
    for number, writer in enumerate(writers):
        about = {"commandId": str(uuid4()), **({} if writer is None else {"writer": writer})}
        record = NewRecord("Placed", b"{}", about, str(uuid4()))
        await log.append([StreamAppend(f"order-{before + number}", None, [record])])
    found = await receipt_position(log, ["order-"], f"order-{before}", 0)
    assert found == before + last


@pytest.mark.parametrize("streams", ["", "no JSON", "[1]", '{"coupon-c":"x"}'])
async def test_a_decision_has_a_receipt_although_its_metadata_is_unreadable(streams: str) -> None:
    """Its events were written by another client, with its own metadata."""
    log = MemoryLog()
    record = NewRecord("Noted", b"{}", {"streams": streams, "writer": "a/1"}, str(uuid4()))
    await log.append([StreamAppend("customer-ada", None, [record])])
    seen = {"customer-ada": Seen("f", 0, 1, False, 0.0)}
    found = await joint_receipt(log, ["customer-"], "coupon-c", seen)
    assert found == Done(-1, 1, {"customer-ada": 0})
