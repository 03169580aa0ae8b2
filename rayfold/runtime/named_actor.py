"""An actor that Ray finds by its name, or creates."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayActorError

from rayfold.runtime.placing import Placed

ATTEMPTS = 10
PAUSE = 0.05
"""Seconds between two attempts, which are made where Ray is called: it blocks as well."""


def find_or_make(
    of: type,
    name: str,
    namespace: str,
    place: Placed,
    *arguments: Any,
    detached: bool,
    **named: Any,
) -> Any:
    """Return the actor of that name; where there is none, one of this class, made with the rest.

    Ray starts it again when its process dies, and sends no call twice. `detached`: it outlives
    this process. Blocks.

    Raises:
        RayError: there is none, and none can be made.
    """
    return found_or_made(
        lambda: (
            actor_class(of)
            .options(
                name=name,
                namespace=namespace,
                lifetime="detached" if detached else None,
                get_if_exists=True,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=1000,
                **place.options(),
            )
            .remote(*arguments, **named)
        )
    )


@cache
def actor_class(of: type) -> Any:
    """Return Ray's form of a class, the same one each time: Ray keeps every one that made an actor.

    It keeps them in its head, and in each process that looks an actor up, for as long as they live.
    """
    return ray.remote(of)


def found_or_made(remote: Callable[[], Any]) -> Any:
    """Return the actor that `remote` gives, which asks Ray with `get_if_exists`.

    Ray looks the name up, makes the actor, and looks again where another was faster. If that one
    has died by then, it raises `ValueError`: the next attempt finds or makes another.

    Raises:
        RayActorError: the name leads to no actor, and none can be made under it.
        RayError: as Ray raises it.
    """
    cause: ValueError | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            return remote()
        except ValueError as error:
            cause = error
    raise RayActorError(error_msg=str(cause)) from cause
