"""Views whose events competing consumers share: each event counts once, in its stream's order."""
