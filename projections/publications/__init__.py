"""Publications at work: from the log to webhooks and to NATS, in order of each key."""
