"""The profile behind docs/explanation/performance.md: whose time a sample is."""

from __future__ import annotations

from loadtests.bench.profile import LOOP, shares_of

SAMPLES = """\
run (uvloop/__init__.py:92);serve (api/http/endpoint.py:117);encode (msgspec/json.py:3) 2
run (asyncio/runners.py:118);send (uvicorn/protocols/http/httptools_impl.py:524) 1
run (asyncio/runners.py:118) 1
main (ray/worker.py:1);Worker.main_loop (ray/_private/worker.py:1069) 96
"""


def test_a_sample_counts_for_the_innermost_known_package() -> None:
    assert shares_of(SAMPLES) == {"api/": 0.5, "uvicorn": 0.25, LOOP: 0.25}
