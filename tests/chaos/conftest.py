"""The write side's fixtures: real Ray, real store, once a session."""

from tests.actors.conftest import eventstore, on_ray, registry, sides

__all__ = ["eventstore", "on_ray", "registry", "sides"]
