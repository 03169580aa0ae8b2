"""What is wrong in a stack and why, in one sentence each, with a link to where to fix it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from api.console.templates import url
from api.console.watch import Look
from api.operators.explanations import BEHIND, Finding, explain
from rayfold import Registry

LAGGING = BEHIND

_GRAVE = {"stopped", "part-down", "failing", "nowhere"}
"""Causes by which something is not served or makes no progress, as with servers that are down."""

_MENDED = {
    "parked": ("/console/parked", "Inspect the events"),
    "stopped": ("/console/parked", "Inspect the event"),
}


class Trouble(NamedTuple):
    """One thing that is wrong."""

    weight: str
    """`bad`; `info` if it ends by itself; otherwise `warn`."""
    about: str
    said: str
    do: str
    to: str
    go: str
    """The text of the link `to` the page where it can be fixed."""


def troubles(registry: Registry, look: Look) -> Sequence[Trouble]:
    """Return what is wrong with anything that the domain declares, the worst first."""
    views = [*registry.views, *registry.projections]
    others = [*registry.publications, *registry.reactors, *registry.processes]
    parked = parked_in(look.parts)
    found: dict[tuple[str, str], Trouble] = {}
    for name in (*views, *others):
        for each in explain(name, look.parts, look.rebuilds, parked).findings:
            if each.cause == "nowhere" and name in registry.publications:
                continue  # no target is configured, so nothing is published
            # A server that is down affects many parts, but is reported once.
            same = each.part if each.cause.endswith("-down") else name
            found.setdefault((same, each.sentence), _trouble(registry, name, each))
    for part in look.parts:
        if part.get("kind") == "write" and not part.get("ready"):
            said = f"{part['part']} is not ready: {part.get('error') or 'it does not answer'}"
            do = "nothing; if it lasts, look at the log of its process"
            found[part["part"], said] = Trouble(
                "bad", part["part"], said, do, "/console#parts", "Look at the parts"
            )
    order = {"bad": 0, "warn": 1, "info": 2}
    return sorted(found.values(), key=lambda each: order[each.weight])


def why(name: str, look: Look) -> Sequence[Finding]:
    """Return what is wrong with one view, the most important reason first."""
    return explain(name, look.parts, look.rebuilds, parked_in(look.parts)).findings


def parked_in(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the first parked events of each part, as its status names them."""
    found = []
    for part in parts:
        for each in part.get("poison") or ():
            revision, _, stream = each["event"].partition("@")
            place = {"stream": stream, "revision": revision, "store": part["kind"]}
            found.append({**each, **place, "error": each["reason"]})
    return found


def _trouble(registry: Registry, name: str, finding: Finding) -> Trouble:
    weight = "warn"
    if finding.cause in _GRAVE or finding.cause.endswith("-down"):
        weight = "bad"
    elif finding.cause in ("rebuilding", "catching-up", "starting"):
        weight = "info"
    if name in registry.processes:
        to, go = "/console/processes", "Look at the processes"
        if finding.cause == "parked":
            to, go = "/console/processes?parked=true", "Inspect the processes"
    elif name in registry.publications:
        to, go = "/console/publications", "Look at the publications"
    elif finding.cause in _MENDED:
        to, go = _MENDED[finding.cause]
    elif name in registry.reactors:
        to, go = "/console#parts", "Look at the parts"
    else:
        to, go = url("/console/views/show", view=name), f"Look at {name}"
    return Trouble(weight, name, finding.sentence, finding.do, to, go)
