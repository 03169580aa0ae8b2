"""Which actor is the writer of a stream, and how commands reach it."""
