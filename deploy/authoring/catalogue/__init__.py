"""`rayfold check`: the events of the code, beside those that may be on a log."""
