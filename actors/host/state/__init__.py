"""State-stored aggregates: one transaction for state and outbox, then the events go to the log."""
