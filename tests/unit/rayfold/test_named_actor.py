"""Ray's answer if two callers make an actor at once and it has died: another attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError

from rayfold.runtime import named_actor
from rayfold.runtime.named_actor import ATTEMPTS, actor_class, found_or_made


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_actor, "PAUSE", 0.0)


class Remote:
    """Raises these, one after the other, then gives the actor."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "actor"


def test_an_actor_that_died_meanwhile_is_made_again() -> None:
    remote = Remote(*[ValueError("Failed to look up actor with name 'write#0'")] * 3)
    assert found_or_made(remote) == "actor"
    assert remote.calls == 4


def test_a_name_without_an_actor_leads_to_rays_error_with_the_reason() -> None:
    remote = Remote(*[ValueError("Failed to look up actor with name 'write#0'")] * ATTEMPTS)
    with pytest.raises(RayActorError, match="write#0"):
        found_or_made(remote)
    assert remote.calls == ATTEMPTS


def test_other_errors_of_ray_are_not_retried() -> None:
    remote = Remote(ActorDiedError())
    with pytest.raises(ActorDiedError):
        found_or_made(remote)
    assert remote.calls == 1


def test_ray_gets_each_class_once_however_many_actors_are_made_of_it() -> None:
    assert actor_class(Remote) is actor_class(Remote)
    sources = Path(named_actor.__file__).parents[2]
    makes = [
        str(file.relative_to(sources))
        for folder in ("actors", "deploy", "projections", "rayfold")
        for file in (sources / folder).rglob("*.py")
        if "ray.remote(" in file.read_text()
    ]
    assert makes == ["rayfold/runtime/named_actor.py"]  # whoever calls it each time leaks each time
