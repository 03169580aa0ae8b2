"""The log port over `kurrentdbclient`: an EventStoreDB, a KurrentDB, or the embedded server."""

import os

# gRPC's core writes a line to stderr for each handshake that fails, past every logger; what
# failed is in the errors that it raises. It reads all of these with its first channel.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Whoever waits for an answer looks at the socket itself, as gRPC did until 2024. Its newer engine
# has threads for that: three more are woken for each answer, an eighth of what a write alone costs.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")

# Nothing of gRPC is to run in a child between its fork and its program: one child in twenty died of
# it (SIGSEGV, SIGABRT) while calls were under way. Postgres, Ray and its actors are such children.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
