"""Views whose events competing consumers share: each counts once, in its stream's order."""
