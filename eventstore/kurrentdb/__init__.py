"""The log port over `kurrentdbclient`: an EventStoreDB, a KurrentDB, or the embedded server."""
