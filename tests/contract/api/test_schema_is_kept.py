"""What the document says and what the gateway accepts and answers is the same."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.contract.api.answers import gateway

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))

instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
schemathesis.openapi.format("instant", instants.map(datetime.isoformat))

schema = schemathesis.openapi.from_asgi("/schema", gateway().app)
# A NUL in a text is refused everywhere, which JSON Schema could only say text by text.
schema.config.generation.update(allow_x00=False)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 15,  # a longer search is one at random: SCHEMATHESIS_EXAMPLES=500
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_the_gateway_does_what_the_document_says(case: schemathesis.Case) -> None:
    case.call_and_validate(base_url="http://localhost:8000")
