"""What a benchmark reports of failed answers: no failure stays unexplained."""

from __future__ import annotations

import json

from loadtests.bench.answers import KINDS, LONGEST, OTHERS, Answers, added
from loadtests.bench.report import failures_in

HEAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\r\n"


def problem(detail: str) -> bytes:
    return HEAD + json.dumps({"title": "Unavailable", "detail": detail, "status": 503}).encode()


def test_a_failure_is_reported_with_title_and_detail_and_a_success_with_its_status() -> None:
    answers = Answers()
    answers.take(200, b"HTTP/1.1 200 OK\r\n\r\n{}")
    for _ in range(2):
        answers.take(503, problem("too many connections"))
    answers.take(504, b"HTTP/1.1 504 Gateway Timeout\r\n\r\n<h1>upstream\n is away</h1>", "read ")
    answers.take(500, b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    answers.broke(ConnectionError("closed by the server"))
    assert answers.told() == {
        "statuses": {"200": 1, "503": 2, "read 504": 1, "500": 1, "ConnectionError": 1},
        "failures": {
            "503 Unavailable: too many connections": 2,
            "read 504 <h1>upstream is away</h1>": 1,
            "500": 1,
            "ConnectionError closed by the server": 1,
        },
    }


def test_of_many_kinds_of_failure_the_first_are_listed_and_all_are_counted() -> None:
    answers = Answers()
    for number in range(1000):
        answers.take(503, problem(f"order {number} " + "x" * 1000))
    assert len(answers.failures) == KINDS + 1
    assert answers.failures[OTHERS] == 1000 - KINDS
    assert max(map(len, answers.failures)) <= LONGEST


def test_a_long_failure_that_repeats_is_counted_as_one_kind() -> None:
    answers = Answers()
    for _ in range(3):
        answers.take(503, problem("y" * 1000))
    assert list(answers.failures.values()) == [3]


def test_the_report_says_what_failed_in_any_round() -> None:
    failures = added([{"503 away": 2}, {}, {"503 away": 1, "Timeout": 1}])
    medians = {"rayfold": {"redis@128": {"failures": failures}, "read@32": {"failures": {}}}}
    assert failures_in(medians)[3:] == [
        "- redis@128, rayfold: 3 × 503 away",
        "- redis@128, rayfold: 1 × Timeout",
    ]
    assert failures_in({"rayfold": {"read@32": {"failures": {}}}}) == []
