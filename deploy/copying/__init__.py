"""Copying a log to another event store, with the positions in Rayfold's own records adapted."""
