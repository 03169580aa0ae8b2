"""Custom SQL projections: applied exactly once, rebuilt while they serve, and queried in SQL."""
