"""What is no DSN keeps Postgres from answering, as everything else does that is in `FAILURES`."""

from __future__ import annotations

import pytest

from rayfold.runtime.postgres import FAILURES, connect, why


@pytest.mark.parametrize(
    "dsn",
    [
        "shop",
        "postgresql://u@db:port/shop",
        "postgresql://u@127.0.0.1:99999/shop",
        "postgresql://[::1/shop",
        f"postgresql://u@{'ü' * 80}/shop",
        "postgresql://u@127.0.0.1/shop?sslmode=often",
        "postgresql://u@127.0.0.1/shop?sslmode=verify-full&sslrootcert=/nowhere",
    ],
)
async def test_an_invalid_dsn_counts_as_a_failed_connection(dsn: str) -> None:
    with pytest.raises(FAILURES):
        await connect(dsn)


def test_every_reason_why_it_does_not_answer_is_one_line() -> None:
    assert why(TimeoutError()) == "no answer in time"
    assert why(ConnectionResetError()) == "ConnectionResetError"
    assert why(OSError("one line\nDETAIL: and another")) == "one line"
