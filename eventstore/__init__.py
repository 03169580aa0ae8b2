"""How Rayfold talks to an event store: the port, a log in memory, KurrentDB, an embedded server."""
