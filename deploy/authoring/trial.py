"""Upcasters tried on events that the lock file allows, as far as that is certain."""

from __future__ import annotations

from deploy.authoring.compatibility import Schema
from rayfold import Registry


def complaints(registry: Registry, name: str, version: int, schema: Schema) -> list[str]:
    return []
