"""A domain with personal data: aggregates of both kinds, of others too, and a process."""
