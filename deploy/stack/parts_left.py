"""The parts of a stack that Ray still knows: actors whose names have the stack's id."""

from __future__ import annotations

from contextlib import suppress


def named_parts(namespace: str, stack: str) -> list[str]:
    """Return the names of all living parts, without the stack's id; blocks."""
    from ray.util import list_named_actors

    prefix = f"rayfold:{stack}:"
    return sorted(
        actor["name"].removeprefix(prefix)
        for actor in list_named_actors(all_namespaces=True)
        if actor["namespace"] == namespace and actor["name"].startswith(prefix)
    )


def end_parts(namespace: str, stack: str) -> list[str]:
    """End all parts at once, whatever they are doing; return their names. Blocks.

    Their work is not lost: commands without an answer are sent again, and projections resume at
    their checkpoints.
    """
    import ray
    from ray.exceptions import RayError

    names = named_parts(namespace, stack)
    for name in names:
        with suppress(ValueError, RayError):  # it has ended meanwhile
            ray.kill(ray.get_actor(f"rayfold:{stack}:{name}", namespace))
    return names
