"""Who can be forgotten."""

from __future__ import annotations

from typing import Any, cast

import pytest

from deploy.stack.forgetting import Forgetting
from projections.errors import UnknownTarget
from rayfold import Registry


@pytest.mark.parametrize("subject", ["ada", "Acme:ada", ":ada", ""])
async def test_where_there_are_tenants_a_person_is_one_s(subject: str) -> None:
    """Else an operator would be told that nothing is on the log of somebody of whom there is."""
    registry = Registry.load("tests.personal", tenants=True)
    nothing = cast("Any", None)
    forgetting = Forgetting(registry, "", nothing, nothing, nothing, nothing)
    with pytest.raises(UnknownTarget, match="is of no tenant"):
        await forgetting.forget(["acme:ada", subject])
