"""Shows what is starting: on a terminal updated in place, otherwise line by line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table


class Display:
    """Shows parts with their state and duration, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._since: dict[str, float] = {}
        self._took: dict[str, float] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the display up to date within this context."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._table, console=self._console, refresh_per_second=8, transient=True
        ):
            yield

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Show a part that starts within this context."""
        self._since[name] = time.monotonic()
        self._say(f"starting {name}")
        yield
        self._took[name] = time.monotonic() - self._since[name]
        self._say(f"{name}: {self._took[name]:.1f} s")

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for name, since in self._since.items():
            took = self._took.get(name)
            state = "[green]up[/]" if took is not None else "[yellow]starting[/]"
            table.add_row(name, state, f"{took if took is not None else now - since:.1f} s")
        return table
