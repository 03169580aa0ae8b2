"""A Postgres that the tests of this folder share."""

from tests.integration.projections.conftest import postgres

__all__ = ["postgres"]
