"""Copying a log to another event store, whose positions Rayfold's own records then have."""
