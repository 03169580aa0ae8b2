"""The write side: from a command to its durable events."""
