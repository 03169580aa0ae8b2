"""Operators' actions: a page says what an action will do, and its form does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.console.front import ConsoleFront
from api.http.auth import Role
from api.http.endpoint import Call, Endpoint, Handler
from api.http.problems import Problem, invalid_field, malformed
from api.http.reply import Reply

WHAT = "what"
"""The hidden field with all fixed fields of a form, as a query string.

A browser changes line ends and NULs in a field, and ids may have them.
"""

_MOST_FIELDS = 40


class Input(NamedTuple):
    """A field that the operator fills in."""

    name: str
    label: str
    value: str = ""
    kind: str = "text"
    """`text`, `number` or `checkbox`."""
    least: int | None = None
    most: int | None = None
    hint: str = ""


class Question(NamedTuple):
    """What a page shows and asks before an action is done."""

    title: str
    says: Sequence[str]
    """What the action will do, in sentences."""
    button: str
    what: Mapping[str, object]
    """The fixed fields."""
    back: str
    inputs: Sequence[Input] = ()
    danger: bool = False
    """Whether the action cannot be undone."""


class Line(NamedTuple):
    """The result for one item of an action."""

    text: str
    good: bool = True


class Outcome(NamedTuple):
    """The result of an action."""

    title: str
    lines: Sequence[Line]
    back: str
    follow: str = ""
    """The page on which its progress can be watched."""


class Action(NamedTuple):
    """An action of operators, with a page that asks and a form that does it."""

    path: str
    name: str
    """Its name in the audit log: the last part of the API's path."""
    shape: type[msgspec.Struct]
    ask: Callable[[Mapping[str, str]], Awaitable[Question]]
    do: Callable[[Call, Any], Awaitable[Outcome]]


class Console:
    """Makes the handlers of pages and of their actions."""

    def __init__(self, endpoint: Endpoint, front: ConsoleFront) -> None:
        self._endpoint = endpoint
        self._front = front
        self.page = front.page

    def get(self, path: str, handle: Handler) -> HTTPRouteHandler:
        """Return the handler of a page for operators."""
        return self._endpoint.handler("GET", path, handle, Role.OPERATOR, front=self._front)

    def action(self, action: Action) -> list[HTTPRouteHandler]:
        """Return the handlers of the page that asks and of its form."""

        async def ask(call: Call) -> Reply:
            question = await action.ask(given(call))
            return self.page(call, "ask.html", question=question, what=urlencode(question.what))

        async def do(call: Call) -> Reply:
            fields = await read_form(call)
            self._front.check_word(call, fields)
            wanted = read_fields(fields, action.shape)
            outcome = await self._endpoint.noted(
                call.principal,
                action.name,
                msgspec.json.encode(wanted),
                partial(action.do, call, wanted),
            )
            return self.page(call, "outcome.html", outcome=outcome)

        post = self._endpoint.handler("POST", action.path, do, Role.OPERATOR, front=self._front)
        return [self.get(action.path, ask), post]


def given(call: Call) -> dict[str, str]:
    """Return the fields of the query string; of a repeated field, the last value.

    Raises:
        Problem: 400 if there are more fields than any page takes.
    """
    text = call.query_string.decode("latin-1")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise malformed(f"the query string: {error}") from error


def position(fields: Mapping[str, str], name: str) -> int | None:
    """Return a field that is a position or a revision; None if it is empty.

    Raises:
        Problem: 422 if it is neither.
    """
    text = fields.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid_field(name, "is not a number")
    return int(text)


def needed(fields: Mapping[str, str], *names: str) -> list[str]:
    """Return the values of required fields.

    Raises:
        Problem: 422 if one is missing.
    """
    for name in names:
        if name not in fields:
            raise invalid_field(name, "is missing")
    return [fields[name] for name in names]


async def read_form(call: Call) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        Problem: 400 if it is not a valid form, 415 if it has another media type.
    """
    content_type = call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if content_type not in (b"", b"application/x-www-form-urlencoded"):
        raise Problem(415, "unsupported-media-type", "this expects a form")
    body = await call.body()
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise malformed(f"the body is not a form: {error}") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise malformed("a field is given twice")
    return fields


def read_fields(fields: Mapping[str, str], shape: type[msgspec.Struct]) -> Any:
    """Return a form's fields as a `shape`; empty fields are left out.

    Raises:
        Problem: 422 if they do not fit.
    """
    fixed = dict(parse_qsl(fields.get(WHAT, ""), keep_blank_values=True))
    filled = {name: fields[name] for name in shape.__struct_fields__ if fields.get(name)}
    try:
        return msgspec.convert({**filled, **fixed}, shape, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_field(", ".join(shape.__struct_fields__), str(error)) from error
