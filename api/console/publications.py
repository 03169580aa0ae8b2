"""Publications: their progress, their parked keys, and publishing again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from litestar.handlers import HTTPRouteHandler

from api.console.forms import Action, Console, Input, Line, Outcome, Question, given, needed
from api.console.templates import number
from api.http.endpoint import Call
from api.http.reply import Reply
from api.operators.publications import Publications, Republish, listed

BACK = "/console/publications"

PAGE = 100


class PublicationPages:
    """The page and its actions."""

    def __init__(self, publications: Publications) -> None:
        self._publications = publications

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        return [
            console.get(BACK, partial(self._list, console)),
            *console.action(
                Action("/console/republish", "replay", Republish, self._ask, self._replay)
            ),
        ]

    async def _list(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        name, cursor = fields.get("publication", ""), fields.get("cursor", "")
        found = await listed(self._publications, name, cursor if name else "", PAGE)
        return console.page(
            call, "publications.html", publications=found, beginning=BACK if cursor else None
        )

    async def _ask(self, fields: Mapping[str, str]) -> Question:
        (name,) = needed(fields, "publication")
        key = fields.get("key")
        if fields.get("range") is not None:
            return Question(
                f"Publish {name} again?",
                [
                    "The events of the range are sent again, under the same ids: a "
                    "receiver that checks ids drops those that it has.",
                    "Positions are those of the log: the first is excluded, the last included.",
                ],
                "Publish again",
                {"publication": name},
                BACK,
                [
                    Input("after", "After position", "0", "number", 0),
                    Input("until", "Up to position", "", "number", 0, hint="Empty: to the end."),
                ],
            )
        what = f"{key} of {name}" if key else f"all that is parked of {name}"
        return Question(
            f"Replay {what}?",
            [
                "The parked events are sent again now, in the order of each key, then "
                "those that wait behind them.",
                "What is refused again stays parked, and is tried again automatically.",
            ],
            "Replay",
            {"publication": name, **({"key": key} if key is not None else {})},
            BACK,
        )

    async def _replay(self, call: Call, wanted: Republish) -> Outcome:
        counts = await self._publications.replay(
            wanted.publication, key=wanted.key, after=wanted.after, until=wanted.until
        )
        if "released" in counts:
            left = counts["parked"]
            said = f"{number(counts['released'])} keys go on, {number(left)} are parked"
        else:
            left = counts["failed_keys"]
            said = f"{number(counts['published'])} published again, {number(left)} keys failed"
        title = "Still parked" if left else "Replayed"
        return Outcome(title, [Line(f"{wanted.publication}: {said}", not left)], BACK)
