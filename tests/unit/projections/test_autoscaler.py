"""The autoscaler: quick to add, slow to take away, and it settles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from projections.operations.autoscaler import LAG, MOST_PATIENCE, QUERIES, Autoscaler, Move

STEP = 0.5


def run(
    scaler: Autoscaler, load: Callable[[float, int], float], seconds: float, count: int = 1
) -> list[tuple[float, Move]]:
    """The moves in that time; `load` gives each part's load for a time and a count."""
    moves = []
    for step in range(int(seconds / STEP)):
        now = step * STEP
        if move := scaler.look(now, count, load(now, count)):
            moves.append((now, move))
            count = move.parts
    return moves


def test_many_queries_bring_as_many_replicas_as_they_need() -> None:
    moves = run(Autoscaler(QUERIES, 1, 8), lambda _, count: 160 / count, 300)
    assert [move.parts for _, move in moves] == [4]
    assert moves[0][0] == QUERIES.up_after
    assert "160.0 queries in flight for each, above 48 for 3 s" in moves[0][1].reason


def test_a_short_burst_changes_nothing() -> None:
    burst = run(Autoscaler(QUERIES, 1, 8), lambda now, _: 500.0 if now % 60 < 2 else 20.0, 600)
    assert burst == []


def test_the_number_stays_within_the_declared_bounds() -> None:
    assert [m.parts for _, m in run(Autoscaler(QUERIES, 1, 3), lambda *_: 900.0, 60)] == [3]
    assert [m.parts for _, m in run(Autoscaler(QUERIES, 2, 3), lambda *_: 0.0, 600, 3)] == [2]
    assert [m.parts for _, m in run(Autoscaler(LAG, 2, 4), lambda *_: 1.0, 9, 1)] == [2]


def test_idle_replicas_are_removed_one_by_one() -> None:
    moves = run(Autoscaler(QUERIES, 1, 8), lambda *_: 0.0, 200, 3)
    assert [move.parts for _, move in moves] == [2, 1]
    assert moves[0][0] == QUERIES.down_after


def test_a_load_at_the_border_settles() -> None:
    """If lag returns whenever a partition is removed, that is tried ever more rarely."""
    moves = run(Autoscaler(LAG, 1, 2), lambda _, count: 9.0 if count == 1 else 0.0, 20_000)
    downs = [at for at, move in moves if move.parts == 1]
    gaps = [later - earlier for earlier, later in pairwise(downs)]
    assert len(downs) < 10
    assert gaps == sorted(gaps)
    longest = LAG.down_after * MOST_PATIENCE
    assert all(b > 1.9 * a or b >= longest for a, b in pairwise(gaps))
