"""State-stored aggregates: rows first, in one transaction with an outbox, from there to the log."""
