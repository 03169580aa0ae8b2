"""The programs whose figures `make bench` takes print them: here of next to no load."""

from __future__ import annotations

import pytest

from loadtests.bench.__main__ import COPY, IDLE, figure
from loadtests.bench.telemetry import measure_alone


def test_a_replica_is_copied_and_the_log_replayed() -> None:
    assert figure(*COPY, "--events", "500", "--rest", "0") is not None


def test_the_memory_of_idle_aggregates_is_measured() -> None:
    assert figure(*IDLE, "--aggregates", "1000") is not None


def test_a_benchmark_that_fails_has_no_figure_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert figure(*COPY, "--events", "many") is None
    assert "invalid int value: 'many'" in capsys.readouterr().err


def test_what_telemetry_adds_in_one_process_is_measured() -> None:
    found = measure_alone(rounds=1, writes=640)
    assert found.off_us > 0
    assert found.all_adds_us != 0
    assert "µs of CPU" in found.lines()
