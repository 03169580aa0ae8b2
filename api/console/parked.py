"""Parked events: the list, each event, and folding it again or discarding it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from litestar.handlers import HTTPRouteHandler

from api.console.forms import (
    Action,
    Console,
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
from api.operators.parked_places import decode_place, encode_place
from api.operators.routes import Discard, Operations, Replay, if_known
from projections.parked_pages import BEFORE_ALL, place_of
from rayfold.foreign_json import readable

BACK = "/console/parked"

PAGE = 100


class ParkedEvents:
    """The list, the page of each event, and their actions."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        return [
            console.get("/console/parked", partial(self._list, console)),
            console.get("/console/parked/event", partial(self._event, console)),
            *console.action(
                Action("/console/replay", "replay", Replay, self._ask_replay, self._replay)
            ),
            *console.action(
                Action("/console/discard", "discard", Discard, self._ask_discard, self._discard)
            ),
        ]

    async def _list(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        view, cursor = fields.get("view", ""), fields.get("cursor")
        after = decode_place(cursor, BEFORE_ALL) if cursor else ()
        found = await self._operations.parked(view, "", after, PAGE + 1)
        page = found[:PAGE]
        asked = {"view": view} if view else {}
        later = len(found) > PAGE
        parts = await if_known(self._operations.parts())
        named = {view for part in parts if part.get("poison") for view in part.get("views", ())}
        here = {each["view"] for each in page}
        return console.page(
            call,
            "parked.html",
            parked=page,
            beginning=url(BACK, **asked) if after else None,
            later=url(BACK, **asked, cursor=encode_place(place_of(page[-1]))) if later else None,
            view=view,
            views=sorted(here | named | ({view} if view else set())),
            here=sorted(here),
        )

    async def _event(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        store, view, stream = needed(fields, "store", "view", "stream")
        revision, key = position(fields, "revision"), fields.get("key", "")
        here = next(
            (
                each
                for each in await self._operations.parked(view, key or stream)
                if (each["store"], each["view"], each["key"], each["stream"], each["revision"])
                == (store, view, key, stream, revision)
            ),
            None,
        )
        if here is None:
            raise Problem(404, "not-found", "this is no longer parked")
        event = await self._operations.parked_event(stream, here["revision"])
        if event is not None:
            event = {**event, "data": readable(event["data"])}
        return console.page(call, "parked_event.html", parked=here, event=event)

    async def _ask_replay(self, fields: Mapping[str, str]) -> Question:
        (view,) = needed(fields, "view")
        key = fields.get("key", "")
        what = f"{key} of {view}" if key else f"all that is parked in {view}"
        return Question(
            f"Replay {what}?",
            [
                "The event is folded again by the code that runs now, then the events "
                "behind it, in order.",
                "Where a row is in memory alone, or the view has stopped, the whole view is "
                "rebuilt for that, while the present one serves.",
                "If it fails again, it stays parked, and nothing is lost.",
            ],
            "Replay",
            {"view": view, "key": key},
            BACK,
        )

    async def _replay(self, call: Call, wanted: Replay) -> Outcome:
        done = await self._operations.replay(wanted.view, wanted.key)
        return _outcome("folded", done)

    async def _ask_discard(self, fields: Mapping[str, str]) -> Question:
        view, key = needed(fields, "view", "key")
        return Question(
            f"Discard the event behind which {key} is parked?",
            [
                f"{view} ignores this event for good. The log records that, and every "
                "store and every later rebuild follows it.",
                "The event itself stays on the log, and other views fold it.",
                "The events that wait behind it are folded, in order. It cannot be undone.",
            ],
            "Discard it for good",
            {"view": view, "key": key},
            BACK,
            danger=True,
        )

    async def _discard(self, call: Call, wanted: Discard) -> Outcome:
        done = await self._operations.discard(wanted.view, wanted.key)
        return _outcome("discarded", done)


def _outcome(word: str, done: Sequence[Mapping[str, Any]]) -> Outcome:
    """Return the result for each row or stream; `word` is the text for success."""
    lines = [
        Line(
            f"{each['store']} {each['view']} {each['key'] or each['stream']}: "
            + ("still parked" if each["parked"] else word),
            good=not each["parked"],
        )
        for each in done
    ]
    left = sum(each["parked"] for each in done)
    title = f"{left} of {len(done)} still parked" if left else f"{len(done)} {word}"
    return Outcome(title, lines, BACK)
