"""An actor that Ray finds by its name, or starts if there is none."""

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
"""Seconds between two attempts. The pause blocks, as do the calls of Ray between pauses."""


def find_or_make(
    of: type,
    name: str,
    namespace: str,
    place: Placed,
    *arguments: Any,
    detached: bool,
    **named: Any,
) -> Any:
    """Return the actor of that name; if there is none, start one of class `of` with the arguments.

    Ray restarts it when its process dies, and never sends a call twice. `detached`: it outlives
    this process. Blocks.

    Raises:
        RayError: there is no such actor, and none can be started.
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
    """Return Ray's actor class of a class, the same object each time.

    Ray never frees an actor class that has started an actor, neither in its head nor in the
    processes that look an actor up.
    """
    return ray.remote(of)


def found_or_made(remote: Callable[[], Any]) -> Any:
    """Return the actor that `remote` returns, which calls Ray with `get_if_exists`.

    Ray looks the name up, starts the actor, and looks it up again if another process was faster.
    If that actor has died by then, Ray raises `ValueError`; the next attempt finds or starts one.

    Raises:
        RayActorError: there is no actor of that name, and none can be started under it.
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
