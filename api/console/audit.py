"""The audit page: which operator did what, from the notes on the log."""

from __future__ import annotations

from functools import partial

from litestar.handlers import HTTPRouteHandler

from api.console.forms import Console
from api.http.endpoint import Audits, Call
from api.http.reply import Reply

NOTES = 200


class AuditPage:
    """The last notes, the newest first."""

    def __init__(self, audit: Audits) -> None:
        self._audit = audit

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the one handler."""
        return [console.get("/console/audit", partial(self._page, console))]

    async def _page(self, console: Console, call: Call) -> Reply:
        notes = await self._audit.last(NOTES)
        # As text: another system may have written anything to the stream.
        failed = {
            str(each.get("asked")): each for each in notes if each.get("type") == "OperatorFailed"
        }
        asked = [
            {**each, "failed": failed.get(str(each.get("id")))}
            for each in notes
            if each.get("type") == "OperatorAsked"
        ]
        return console.page(call, "audit.html", notes=asked)
