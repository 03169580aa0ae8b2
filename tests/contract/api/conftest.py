"""The gateway's OpenAPI documents, as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.openapi.document import openapi
from rayfold import Registry

# What they need comes from npm: `make clients`, or `make test` where npm is.
TYPESCRIPT = Path(__file__).parent / "typescript"
collect_ignore = [] if (TYPESCRIPT / "node_modules").is_dir() else [str(TYPESCRIPT)]


@pytest.fixture(params=["domain", "examples.shop"])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the document of a domain, in a file of its own."""
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(openapi(Registry.load(request.param))))
    return path
