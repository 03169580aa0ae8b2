"""`rayfold dev`: a stack that restarts when its code changes."""
