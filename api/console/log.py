"""The log: events by stream, type or correlation; an aggregate through time; deleting one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from litestar.handlers import HTTPRouteHandler

from api.console.forms import (
    Action,
    Console,
    Input,
    Line,
    Outcome,
    Question,
    given,
    needed,
    position,
)
from api.console.templates import url
from api.http.endpoint import Call
from api.http.problems import Problem
from api.http.reply import Reply
from api.operators.routes import Delete, Operations, OrderedLog
from rayfold import Registry

MOST_ASKED = 1100
"""The most characters of a filter."""


class Browser(OrderedLog, Protocol):
    """See `projections.queries.log_browser.LogBrowser`."""

    async def page(
        self,
        *,
        stream: str = "",
        event_type: str = "",
        about: str = "",
        before: int | None = None,
    ) -> dict[str, Any]:
        """See `LogBrowser.page`."""
        ...

    async def event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """See `LogBrowser.event`."""
        ...

    async def through_time(self, stream: str, revision: int | None = None) -> dict[str, Any] | None:
        """See `LogBrowser.through_time`."""
        ...


class LogPages:
    """Pages over a browser of the log."""

    def __init__(self, registry: Registry, browser: Browser, operations: Operations) -> None:
        self._registry = registry
        self._browser = browser
        self._operations = operations

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        return [
            console.get("/console/log", partial(self._log, console)),
            console.get("/console/log/event", partial(self._event, console)),
            console.get("/console/aggregates", partial(self._aggregate, console)),
            *console.action(
                Action("/console/delete", "delete", Delete, self._ask_delete, self._delete)
            ),
        ]

    async def _log(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        asked = {
            name: fields.get(name, "").strip()[:MOST_ASKED] for name in ("stream", "type", "about")
        }
        found = await self._browser.page(
            stream=asked["stream"],
            event_type=asked["type"],
            about=asked["about"],
            before=position(fields, "before"),
        )
        older = url("/console/log", **{k: v for k, v in asked.items() if v}, before=found["next"])
        return console.page(
            call,
            "log.html",
            asked=asked,
            found=found,
            older=older if found["next"] is not None else None,
            first="before" not in fields,
            types=sorted(self._registry.events),
            categories=self._registry.aggregates,
        )

    async def _event(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        (stream,) = needed(fields, "stream")
        revision = position(fields, "revision")
        event = await self._browser.event(stream, revision or 0)
        if event is None:
            raise Problem(404, "not-found", "this event is not on the log, or no longer")
        known = stream.partition("-")[0] in self._registry.aggregates
        return console.page(call, "event.html", event=event, known=known)

    async def _aggregate(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        stream = fields.get("stream", "").strip()
        categories = sorted(self._registry.aggregates)
        if not stream:
            return console.page(call, "aggregate.html", stream="", at=None, categories=categories)
        at = await self._browser.through_time(stream, position(fields, "revision"))
        if at is None:
            raise Problem(404, "not-found", f"no aggregate has the stream {stream}")
        content: dict[str, Any] = {
            "stream": stream,
            "at": at,
            "fields": _fields(at),
            "categories": categories,
            "subject": self._subject_of(stream),
        }
        part = b"hx-request" in call.headers
        return console.page(call, "_aggregate.html" if part else "aggregate.html", **content)

    def _subject_of(self, stream: str) -> str:
        """Return the subject of a stream's personal data; empty if it has none."""
        category, _, aggregate_id = stream.partition("-")
        return aggregate_id if category in self._registry.with_personal_data else ""

    async def _ask_delete(self, fields: Mapping[str, str]) -> Question:
        (stream,) = needed(fields, "stream")
        return Question(
            f"Delete {stream}?",
            [
                "This deletes its events, its snapshots, and its rows in all views. "
                "It cannot be undone.",
                "Rows that are made of several streams keep its data. The result "
                "names their views.",
            ],
            "Delete it for good",
            {"stream": stream},
            url("/console/aggregates", stream=stream),
            [
                Input(
                    "tombstone",
                    "Never let the id be used again",
                    "true",
                    "checkbox",
                    hint="Otherwise a new aggregate may use its id.",
                )
            ],
            danger=True,
        )

    async def _delete(self, call: Call, wanted: Delete) -> Outcome:
        kept = await self._operations.delete(wanted.stream, tombstone=wanted.tombstone)
        word = "tombstoned" if wanted.tombstone else "deleted"
        lines = [Line(f"{wanted.stream}: {word}")]
        if kept:
            lines.append(Line(f"Rows of several streams keep its data: {', '.join(kept)}"))
        return Outcome("Deleted", lines, "/console/log")


def _fields(at: Mapping[str, Any]) -> list[tuple[str, Any, Any, bool]]:
    """Return each field of the state: its name, its value before and after, whether it changed."""
    before, after = at["before"], at["state"]
    return [
        (name, before.get(name), value, before.get(name) != value) for name, value in after.items()
    ]
