"""What the document says and what the gateway accepts and answers is the same."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.pytest.lazy import get_all_tests

from tests.contract.api.answers import gateway

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))

SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 15,  # a longer search is one at random: SCHEMATHESIS_EXAMPLES=500
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
schemathesis.openapi.format("instant", instants.map(datetime.isoformat))


def kept(case: schemathesis.Case) -> None:
    case.call_and_validate(base_url="http://localhost:8000")


def test_the_gateway_does_what_the_document_says(subtests: pytest.Subtests) -> None:
    """Each of its operations is a subtest.

    If each were a test, all requests would be generated when tests are collected, which takes seven
    seconds in each process, whatever it runs.
    """
    load_all_checks()
    schema = schemathesis.openapi.from_asgi("/schema", gateway().app)
    # A NUL in a text is refused everywhere, which JSON Schema could only say text by text.
    schema.config.generation.update(allow_x00=False)
    tried = 0
    for made in get_all_tests(schema=schema, test_func=kept, settings=SETTINGS, given_kwargs={}):
        operation, test = made.ok()
        with subtests.test(operation.label):
            test()
        tried += 1
    assert tried > 50
