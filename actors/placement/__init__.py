"""Which actor is the writer of a stream, and the way there."""
