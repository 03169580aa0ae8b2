"""What `rayfold` exports, though it imports nothing before it is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rayfold
from rayfold import vocabulary

_ROOM = Path(rayfold.__file__).parent


def test_the_vocabulary_is_what_is_exported() -> None:
    given: dict[str, object] = {}
    exec("from rayfold import *", given)

    assert given.keys() - {"__builtins__"} == set(vocabulary.__all__)
    assert all(getattr(rayfold, name) is getattr(vocabulary, name) for name in vocabulary.__all__)
    assert set(vocabulary.__all__) <= set(dir(rayfold))


def test_no_export_has_the_name_of_a_module() -> None:
    """After an import of that module, the name would mean the module and not the export."""
    modules = {path.stem for path in _ROOM.iterdir()}

    assert modules.isdisjoint(vocabulary.__all__)


def test_a_name_that_is_not_exported_is_named_in_the_error() -> None:
    with pytest.raises(AttributeError, match="'rayfold' has no attribute 'Agregate'"):
        _ = rayfold.Agregate  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'Agregate' from 'rayfold'"):
        exec("from rayfold import Agregate")


def test_the_event_stores_process_does_not_import_the_vocabulary() -> None:
    """That saves 8 MB and 0.15 s of each start."""
    script = "import sys, eventstore.embedded.main; sys.exit('pydantic' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], cwd=_ROOM.parent).returncode == 0
