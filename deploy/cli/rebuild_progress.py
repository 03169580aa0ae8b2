"""Shows the progress of a rebuild: a bar on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deploy.errors import StartError

LOOK = 0.3
"""Seconds between two checks."""


def follow_rebuild(ask: Callable[..., Any], view: str, *, accept_parked: bool = False) -> None:
    """Start a rebuild, or join a running one, and return when it is done.

    Raises:
        StartError: it failed or was cancelled, or the gateway does not answer.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[rate]:,} events/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(view, total=None, rate=0)
        now = ask("/operators/rebuild", {"view": view, "accept_parked": accept_parked})
        while now["state"] not in ("done", "failed"):
            bar.update(
                task,
                description=f"{view} in {now['store'] or '…'}: {now['state']}",
                completed=now["position"],
                total=now["end"] or None,
                rate=now["events_per_second"],
            )
            time.sleep(LOOK)
            rebuilds = ask("/operators/rebuilds")["rebuilds"]
            known = [each for each in rebuilds if each["view"] == view]
            if not known:
                raise StartError(
                    f"the rebuild of {view!r} was stopped, as another process owns the stack"
                    " now; the live rows are unchanged: run it again"
                )
            [now] = known
    if now["state"] == "failed":
        why = [f"the rebuild of {view!r} failed, the live rows are unchanged: {now['error']}"]
        if now.get("would_park"):
            why.append("correct the fold; or accept this with --accept-parked")
        raise StartError(*why)
    rate = now["events_per_second"]  # 0 if it ended before the first check
    folded = f", {rate:,} events/s in {now['store']}" if rate else ""
    sys.stdout.write(f"{view}: rebuilt in {_listed(now['stores'])}, {now['seconds']} s{folded}\n")


def _listed(names: Sequence[str]) -> str:
    """Return the names as in a sentence: `memory, postgres and redis`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
