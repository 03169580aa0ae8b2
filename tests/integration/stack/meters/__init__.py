"""A domain with views that break: on their own code, and on what Postgres does not take."""
