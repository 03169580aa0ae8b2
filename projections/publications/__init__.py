"""Running publications: from the log to webhooks and NATS, in the order of each key."""
