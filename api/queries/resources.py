"""What a command or a query requires of its sender."""

from __future__ import annotations

from typing import Any


def needs_of(message: Any) -> str:
    """Return the permission that a command or a query needs; empty if none."""
    needs: str = message.__rayfold__.needs
    return needs
