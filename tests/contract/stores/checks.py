"""Whether a store has what a fresh fold of the log says: rows, and what queries find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.deletions import with_deletions
from eventstore.memory import MemoryLog
from projections.operations.differences import Difference
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from tests.contract.stores.subjects import Subject


async def differences(log: MemoryLog, subject: Subject) -> list[Difference]:
    """Return where it differs; it must have come to the log's end."""
    end = await log.end_position(with_deletions(subject.registry.prefixes))
    expected = await fold_afresh(subject.registry, log, end)
    found: list[Difference] = []
    for name, table in expected.items():
        questions = sample(table)
        snapshot = await subject.snapshot(name, questions)
        found += compare_store(subject.name, table, questions, snapshot, end)
    return found


def told(parked: Iterable[Any]) -> set[tuple[str, str, int]]:
    """View, key and revision of what is parked."""
    return {(each.view, each.key, each.revision) for each in parked}
