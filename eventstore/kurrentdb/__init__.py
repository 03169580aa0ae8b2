"""The log port over `kurrentdbclient`: an EventStoreDB, a KurrentDB, or the embedded server."""

import os

# gRPC's core writes a line to stderr for each failed handshake, bypassing every logger, although
# the errors that it raises say the same. It reads all of these variables with its first channel.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# The waiting thread polls the socket itself, as gRPC did until 2024. The newer engine uses threads
# for that: it wakes three more for each answer, an eighth of the cost of a single write.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")

# gRPC must not run in a child process between fork and exec: one child in twenty died of it
# (SIGSEGV, SIGABRT) during pending calls. Postgres, Ray and its actors are such children.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
