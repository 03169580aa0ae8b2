"""The log port over `kurrentdbclient`: an EventStoreDB, a KurrentDB, or the embedded server."""

import os

# gRPC's core writes a line to stderr for each handshake that fails, past every logger; what
# failed is in the errors that it raises. It reads this with its first channel.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
