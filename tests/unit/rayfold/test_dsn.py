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
async def test_one_that_cannot_be_read_is_no_connection(dsn: str) -> None:
    with pytest.raises(FAILURES):
        await connect(dsn)


def test_whatever_keeps_it_from_answering_is_told_in_a_line() -> None:
    assert why(TimeoutError()) == "no answer in time"
    assert why(ConnectionResetError()) == "ConnectionResetError"
    assert why(OSError("one line\nDETAIL: and another")) == "one line"
