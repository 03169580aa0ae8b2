"""What tests of hosts have in common."""

from __future__ import annotations

import pytest

from actors.host import host as host_module


@pytest.fixture
def one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide all that waits in one turn, however long a busy machine takes for it.

    Else what is decided together, and before what, depends on the time.
    """
    monkeypatch.setattr(host_module, "DECIDING", 60.0)
