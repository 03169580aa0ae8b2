"""Durable read stores: the port that each implements, and the runtime written once over it."""
