"""Views: the stores of each, its progress, and operators' actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.console.forms import Action, Console, Input, Line, Outcome, Question, given, needed
from api.console.lagging import LAGGING, why
from api.console.templates import number, url
from api.console.watch import Look, Watch
from api.http.endpoint import Call
from api.http.problems import Problem
from api.http.reply import Reply
from api.operators.routes import Operations, Rebuild, Scale
from rayfold import Registry

MOST_PARTS = 64

MOST_DIFFERENCES = 100
"""The most differences that a page shows."""


class Kept(NamedTuple):
    """A view in one of its stores."""

    store: str
    target: str
    """Its name for `scale`; empty if it cannot be scaled."""
    parts: Sequence[Mapping[str, Any]]
    state: str
    """`good`, `warn` or `bad`."""
    said: str
    lag: int
    lag_seconds: float
    rows: int | None


class ShownView(NamedTuple):
    """A view, or a SQL projection, as the console shows it."""

    name: str
    about: str
    events: Sequence[str]
    delivery: str
    on_poison: str
    kept: Sequence[Kept]
    rebuild: Mapping[str, Any] | None


class Verify(msgspec.Struct, forbid_unknown_fields=True):
    """Takes nothing."""


_KINDS = {"postgres": ("postgres", "competing", "sql")}
"""Kinds of parts that keep views in a store, if other than the store's own name."""


def shown_views(registry: Registry, look: Look) -> Sequence[ShownView]:
    """Return every view with its stores."""
    rebuilds = {each["view"]: each for each in look.rebuilds}
    found = []
    for name, view in registry.views.items():
        found.append(
            ShownView(
                name,
                _about(view.model),
                sorted(event.__rayfold__.name for event in view.folds),
                str(view.delivery),
                str(view.on_poison),
                [_kept(look.parts, name, store) for store in _stores(look.parts, view.stores)],
                rebuilds.get(name),
            )
        )
    for name, projection in registry.projections.items():
        kept = _kept(look.parts, name, "postgres")._replace(target="")
        found.append(
            ShownView(name, _about(projection), [], "SQL", "stop", [kept], rebuilds.get(name))
        )
    return sorted(found, key=lambda each: each.name)


def views_content(registry: Registry, look: Look) -> dict[str, Any]:
    """Return what the page of all views shows."""
    return {"look": look, "views": shown_views(registry, look)}


def named_view(registry: Registry, call: Call) -> str:
    """Return the name of the view whose page is requested.

    Raises:
        Problem: 422 if none is named, 404 if there is none of that name.
    """
    (name,) = needed(given(call), "view")
    if name not in registry.views and name not in registry.projections:
        raise Problem(404, "not-found", f"no view is named {name!r}")
    return name


def view_content(registry: Registry, look: Look, name: str) -> dict[str, Any]:
    """Return what the page of one view shows."""
    [view] = [each for each in shown_views(registry, look) if each.name == name]
    return {"look": look, "view": view, "findings": why(name, look)}


def _stores(parts: Sequence[Mapping[str, Any]], declared: Sequence[str]) -> Sequence[str]:
    """Return the stores of a view that this stack has; if it has none of them, all of them."""
    kinds = {part.get("kind") for part in parts}
    return [each for each in declared if kinds & {*_KINDS.get(each, (each,))}] or declared


def _kept(parts: Sequence[Mapping[str, Any]], view: str, store: str) -> Kept:
    kinds = _KINDS.get(store, (store,))
    mine = [part for part in parts if part.get("kind") in kinds and view in part.get("views", ())]
    lag = max((part.get("lag", 0) for part in mine), default=0)
    seconds = max((part.get("lag_seconds", 0.0) for part in mine), default=0.0)
    counts = [part["rows"][view] for part in mine if view in (part.get("rows") or {})]
    state, said = "good", "up to date"
    if seconds > LAGGING:
        state, said = "warn", "behind the log"
    if parked := _parked(mine, view):
        state, said = "warn", f"{parked} parked"
    if any(view in part.get("rebuilding", ()) for part in mine):
        said = "being rebuilt"
    if any(part.get("error") for part in mine):
        state, said = "warn", "goes on with errors"
    if any(view in (part.get("stopped") or {}) for part in mine):
        state, said = "bad", "has stopped"
    if not any(part.get("ready") for part in mine):
        state, said = "bad", "not ready" if mine else "no part keeps it"
    return Kept(
        store, f"{store}:{view}", mine, state, said, lag, seconds, max(counts, default=None)
    )


def _parked(parts: Sequence[Mapping[str, Any]], view: str) -> int:
    """Return the number of parked keys; for parts with several views, only the first are known."""
    alone = [part.get("parked") or 0 for part in parts if len(part.get("views", ())) == 1]
    poison = [each for part in parts for each in part.get("poison") or () if each["view"] == view]
    return max(sum(alone), len({each["key"] for each in poison}))


class Views:
    """The pages of views and their actions."""

    def __init__(self, registry: Registry, operations: Operations, watch: Watch) -> None:
        self._registry = registry
        self._operations = operations
        self._watch = watch

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        return [
            console.get("/console/views", partial(self._list, console)),
            console.get("/console/views/show", partial(self._show, console)),
            console.get("/console/rebuild/progress", partial(self._progress, console)),
            *console.action(
                Action("/console/rebuild", "rebuild", Rebuild, self._ask_rebuild, self._rebuild)
            ),
            *console.action(Action("/console/scale", "scale", Scale, self._ask_scale, self._scale)),
            *console.action(
                Action("/console/verify", "verify", Verify, self._ask_verify, self._verify)
            ),
        ]

    async def _list(self, console: Console, call: Call) -> Reply:
        look = await self._watch.look()
        return console.page(call, "views.html", **views_content(self._registry, look))

    async def _show(self, console: Console, call: Call) -> Reply:
        name = named_view(self._registry, call)
        look = await self._watch.look()
        return console.page(call, "view.html", **view_content(self._registry, look, name))

    async def _ask_rebuild(self, fields: Mapping[str, str]) -> Question:
        (view,) = needed(fields, "view")
        known = self._registry.views.get(view)
        stores = " and in ".join(known.stores) if known else "postgres"
        return Question(
            f"Rebuild {view}?",
            [
                f"Every event that it folds is read again from the log, in {stores}.",
                "The present rows are served meanwhile. The new ones replace them at "
                "once when they have caught up. If that fails, or if keys that serve "
                "would be parked, nothing changes.",
                "It takes CPU, and space for a second generation of the rows.",
            ],
            "Rebuild it",
            {"view": view},
            "/console/views",
            [Input("accept_parked", "Also if keys that serve would be parked", "true", "checkbox")],
        )

    async def _rebuild(self, call: Call, wanted: Rebuild) -> Outcome:
        await self._operations.rebuild(wanted.view, accept_parked=wanted.accept_parked)
        return Outcome(
            f"{wanted.view} is being rebuilt",
            [],
            url("/console/views/show", view=wanted.view),
            url("/console/rebuild/progress", view=wanted.view),
        )

    async def _progress(self, console: Console, call: Call) -> Reply:
        (view,) = needed(given(call), "view")
        rebuilds = await self._operations.rebuilds()
        now = next((each for each in rebuilds if each["view"] == view), None)
        if now is None:
            raise Problem(404, "not-found", f"{view!r} was not rebuilt")
        return console.page(call, "_progress.html", now=now, polled=True)

    async def _ask_scale(self, fields: Mapping[str, str]) -> Question:
        (target,) = needed(fields, "target")
        look = await self._watch.look()
        count = _count(look.parts, target)
        return Question(
            f"Scale {target}",
            [
                f"There {'is' if count == 1 else 'are'} {count} now. These serve until "
                "the new ones are ready. Nothing is lost if there are fewer.",
                "The number is kept over restarts. An autoscaler may change it again.",
            ],
            "Scale it",
            {"target": target},
            "/console/views",
            [Input("n", "How many", str(count or 1), "number", 1, MOST_PARTS)],
        )

    async def _scale(self, call: Call, wanted: Scale) -> Outcome:
        await self._operations.scale(wanted.target, wanted.n)
        said = f"{wanted.target}: {wanted.n}"
        return Outcome("Scaled", [Line(said)], "/console/views")

    async def _ask_verify(self, fields: Mapping[str, str]) -> Question:
        return Question(
            "Verify every view?",
            [
                "The log is folded again, and every row of every view in every store "
                "is compared with the result.",
                "Nothing is changed. Reading the whole log may take minutes.",
            ],
            "Verify",
            {},
            "/console/views",
        )

    async def _verify(self, call: Call, wanted: Verify) -> Outcome:
        found = await self._operations.verify()
        lines = [
            Line(
                f"{each['store']} {each['view']} {each['key']}: the log says "
                f"{each['expected']}, the store has {each['found']}",
                good=False,
            )
            for each in found[:MOST_DIFFERENCES]
        ]
        if len(found) > MOST_DIFFERENCES:
            lines.append(Line(f"… and {number(len(found) - MOST_DIFFERENCES)} more", good=False))
        title = "No differences" if not found else f"{number(len(found))} differences"
        lines = lines or [Line("Every row in every store is what the log says.")]
        return Outcome(title, lines, "/console/views")


def _count(parts: Sequence[Mapping[str, Any]], target: str) -> int:
    kind, _, name = target.partition(":")
    if kind in ("write", "process", "reactor"):
        prefix = f"{target}#"
        return sum(part["part"].startswith(prefix) for part in parts)
    kinds = _KINDS.get(kind, (kind,))
    mine = [part for part in parts if part.get("kind") in kinds]
    views = {name} if name else {view for part in mine for view in part.get("views", ())}
    return max((sum(view in part.get("views", ()) for part in mine) for view in views), default=0)


def _about(declared: type) -> str:
    """Return the first line of the view's docstring."""
    said = (vars(declared).get("__doc__") or "").strip()
    return said.splitlines()[0] if said else ""
