"""The data folder: one SQLite file, one thread that writes it, and what reads see of it."""
