"""A durable single-node server that speaks KurrentDB's gRPC protocol. See ``README.md``."""
