"""Forgetting a person, from the page of their aggregate."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.console.forms import Action, Console, Input, Line, Outcome, Question
from api.http.endpoint import Call
from api.operators.routes import Operations


class ForgetOne(msgspec.Struct, forbid_unknown_fields=True):
    """Whose personal data is to be unreadable from now on."""

    subject: str


class ForgettingForm:
    """Asks for the subject, and forgets it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers of the question and of its form."""
        return console.action(
            Action("/console/forget", "forget", ForgetOne, self._ask, self._forget)
        )

    async def _ask(self, fields: Mapping[str, str]) -> Question:
        return Question(
            "Forget a person?",
            [
                "This destroys the key of the person's data. It cannot be undone.",
                "Views with personal data are rebuilt, so that none of it is left there.",
            ],
            "Forget them for good",
            {},
            "/console/audit",
            [Input("subject", "Their id", fields.get("subject", ""))],
            danger=True,
        )

    async def _forget(self, call: Call, wanted: ForgetOne) -> Outcome:
        answer = await self._operations.forget([wanted.subject])
        if answer["unknown"]:
            line = Line(f"{wanted.subject}: the log has no personal data under that id", False)
            return Outcome("Nobody is forgotten", [line], "/console/audit")
        lines = [Line(f"{wanted.subject}: the key is destroyed")]
        if any(not each["settled"] for each in answer["forgotten"]):
            lines.append(Line(f"Being rebuilt: {', '.join(answer['views']) or 'no view'}"))
        return Outcome("Forgotten", lines, "/console/views")
