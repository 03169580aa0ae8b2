"""Custom SQL projections: run exactly once, rebuilt beside themselves, and asked in SQL."""
