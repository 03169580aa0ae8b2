"""The store that docs/how-to/add-a-read-store.md builds."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from tests.documents import ROOT, run_python


@cache
def store() -> Any:
    """Return its class."""
    module = ModuleType("documented_store")
    run_python(ROOT / "docs" / "how-to" / "add-a-read-store.md", module)
    return module.SqliteStore  # type: ignore[attr-defined]
