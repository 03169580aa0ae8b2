"""Signing in with an operator's token, and out."""

from __future__ import annotations

from litestar.handlers import HTTPRouteHandler

from api.console.forms import given, read_form
from api.console.front import SIGN_IN, ConsoleFront
from api.http.auth import Access, Role
from api.http.endpoint import Call, Endpoint
from api.http.problems import Problem
from api.http.reply import Reply


class Signing:
    """Handlers of the sign-in and sign-out forms, which need no token."""

    def __init__(self, front: ConsoleFront) -> None:
        self._front = front

    def handlers(self, endpoint: Endpoint) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        public, front = Role.PUBLIC, self._front
        return [
            endpoint.handler("GET", SIGN_IN, self._page, public, front=front),
            endpoint.handler("POST", SIGN_IN, self._sign_in, public, front=front),
            endpoint.handler("POST", "/console/sign-out", self._sign_out, public, front=front),
        ]

    async def _page(self, call: Call) -> Reply:
        return self._front.sign_in_page(call, 200, "", given(call).get("next", "/console"))

    async def _sign_in(self, call: Call) -> Reply:
        fields = await read_form(call)
        token, to = fields.get("token", "").strip(), fields.get("next", "/console")
        if not token:
            return self._front.sign_in_page(call, 422, "Give a token.", to)
        if not self._front.principals.open:
            shown = {b"authorization": b"Bearer " + token.encode()}
            try:
                caller = await self._front.principals.of(shown)
                caller.check(Access(Role.OPERATOR))
            except Problem as problem:
                if problem.status not in (401, 403):
                    raise
                said = (
                    "No operator has this token, or not any more."
                    if problem.status == 401
                    else f"{problem.detail}."
                )
                return self._front.sign_in_page(call, problem.status, said, to)
        return await self._front.signed_in(call, token, to)

    async def _sign_out(self, call: Call) -> Reply:
        return await self._front.signed_out(call)
