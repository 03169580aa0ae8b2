"""The operators' page: one file, nothing loaded from elsewhere."""

from __future__ import annotations

from importlib.resources import files

PAGE = files("api.operators").joinpath("console.html").read_bytes()
