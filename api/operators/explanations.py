"""Why a view lags or a query waits: explained in sentences from the status of the parts.

Pure: the parts' status goes in. Causes are sought in the order in which they hide each other: if
the event store is down, a projector's error follows from that and is not reported.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

Part = Mapping[str, Any]

BEHIND = 2.0
"""Seconds behind the log from which on a view lags."""

LONGEST = 160
"""The most characters of a foreign error in a sentence."""

COUNTED = 101
"""Parked rows are counted up to this number: there may be as many as the view has rows."""

_SERVERS = {
    "eventstore": ("store-down", "the event store", "look at the event store and the way to it"),
    "ray": ("ray-down", "Ray", "nothing: it is started again; look at its log if that goes on"),
    "postgres": ("postgres-down", "Postgres", "look at Postgres and the way to it"),
    "controller": ("controller-down", "the controller", "look at `rayfold controller`"),
}


class Finding(NamedTuple):
    """One reason. `since` is an instant, or None if unknown; `do` is advice for an operator."""

    cause: str
    part: str
    since: str | None
    sentence: str
    do: str


class Explanation(NamedTuple):
    """What is wrong with a view, the most important reason first; empty if nothing is wrong."""

    name: str
    findings: Sequence[Finding]
    parts: Sequence[Part]

    @property
    def sentence(self) -> str:
        """Return all of it as text for people."""
        if not self.findings:
            where = ", ".join(sorted({_store(part) for part in self.parts}))
            return f"{self.name} is up to date{f' in {where}' if where else ''}."
        said = "; ".join(each.sentence for each in self.findings)
        return f"{said}. What to do: {self.findings[0].do}."

    def plain(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "name": self.name,
            "sentence": self.sentence,
            "healthy": not self.findings,
            "findings": [each._asdict() for each in self.findings],
            "parts": list(self.parts),
        }


def explain(
    name: str,
    parts: Sequence[Part],
    rebuilds: Sequence[Mapping[str, Any]],
    parked: Sequence[Mapping[str, Any]],
    now: datetime | None = None,
) -> Explanation:
    """Explain a view, a SQL projection, a publication, a reactor or a process manager.

    A publication with nothing to publish does not lag, wherever the log ends: see
    `ActorHandle.status`. `parts` are all parts of the stack; `rebuilds` and `parked` may include
    other names.
    """
    now = now or datetime.now(UTC)
    mine = [part for part in parts if _concerns(part, name)]
    findings = _servers_down(parts, mine, now)
    down = {each.cause for each in findings}
    findings += _stopped(name, mine, parked)
    if not down & {"store-down", "ray-down"}:
        # Errors of parts that wait for a server follow from that and are not reported.
        awake = [each for each in mine if not ("postgres-down" in down and _on_postgres(each))]
        findings += [found for part in awake if (found := _not_ready(part, now))]
    stopped = {each.part for each in findings if each.cause == "stopped"}
    findings += _parked(name, [each for each in parked if each["store"] not in stopped])
    findings += _parked_elsewhere(mine, now)
    findings += _unanswered(mine)
    findings += _not_taken(mine, now)
    findings += _rebuilding(name, rebuilds)
    if not findings or not down:
        findings += [found for part in mine if (found := _behind(name, part, now))]
    if not mine:
        findings.append(_nowhere(name))
    return Explanation(name, findings, mine)


def _servers_down(parts: Sequence[Part], mine: Sequence[Part], now: datetime) -> list[Finding]:
    in_memory_alone = bool(mine) and all(part["kind"] == "memory" for part in mine)
    servers = {part["part"]: part for part in parts if part["part"] in _SERVERS}
    found = []
    for server, (cause, called, do) in _SERVERS.items():
        part = servers.get(server)
        if part is None or part["ready"] or (server == "postgres" and in_memory_alone):
            continue
        since = part.get("since")
        what = f"{called} does not serve{_for(since, now)}: {part.get('error', 'no answer')}"
        if server == "eventstore":
            what += "; nothing is folded meanwhile, and queries answer with what they have"
        found.append(Finding(cause, server, since, what, do))
    return found


def _concerns(part: Part, name: str) -> bool:
    kind, _, rest = part["part"].partition(":")
    named = kind in ("process", "publication", "reactor") and rest.partition("#")[0] == name
    return named or name in part.get("views", ())


def _on_postgres(part: Part) -> bool:
    return part["kind"] in ("postgres", "competing", "sql", "reactor")


def _store(part: Part) -> str:
    return "postgres" if part["kind"] in ("postgres", "competing", "sql") else str(part["kind"])


def _for(since: str | None, now: datetime) -> str:
    if since is None:
        return ""
    seconds = max((now - datetime.fromisoformat(since)).total_seconds(), 0.0)
    return f" since {since} ({_lasting(seconds)})"


def _ago(seconds: float, now: datetime) -> str | None:
    if not seconds:
        return None
    return datetime.fromtimestamp(now.timestamp() - seconds, UTC).isoformat(timespec="seconds")


def _lasting(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _stopped(name: str, mine: Sequence[Part], parked: Sequence[Mapping[str, Any]]) -> list[Finding]:
    reasons = {
        _store(part): str(part["stopped"][name])
        for part in mine
        if name in (part.get("stopped") or {})
    }
    found = []
    for store, reason in reasons.items():
        # The event at which it stopped is listed as parked too, under its row or its stream.
        at = next((p for p in parked if p["view"] == name and p["store"] == store), None)
        event = f"event {at['revision']}@{at['stream']}, which" if at else "an event that"
        key = shlex.quote(str(at["key"] or at["stream"])) if at else "KEY"
        found.append(
            Finding(
                "stopped",
                store,
                at.get("since") if at else None,
                f"{name} has stopped in {store} at {event} it cannot fold"
                f" ({_shortened(reason)}): it does not continue until that is corrected",
                f"correct its code and run `rayfold parked replay {name}`,"
                f" or discard the event: `rayfold parked discard {name} {key}`",
            )
        )
    return found


def _not_ready(part: Part, now: datetime) -> Finding | None:
    if part["ready"] or part.get("stopped"):
        return None
    since, name = part.get("since"), part["part"]
    error = str(part.get("error") or "")
    silence = ("TimeoutError", "it does not answer")
    away = error in ("ActorUnavailable", *silence) or "position" not in part
    if away and not part.get("broken"):  # a broken one has its own error
        silent = "its process does not answer" if error in silence else "its process is gone"
        times = part.get("restarts") or 0
        often = "once" if times == 1 else f"{times} times"
        again = f"; it was started again {often} before" if times else ""
        return Finding(
            "part-down",
            name,
            since,
            f"{name} is down{_for(since, now)}: {silent}, and is started again{again}",
            "nothing; if it lasts, look at the log of its process, and at its node; code"
            " of yours that computes for seconds without a pause holds it up too",
        )
    if error:
        return Finding(
            "failing",
            name,
            since,
            f"{name} cannot go on{_for(since, now)}, and tries again and again: {error}",
            "correct what the error says; it continues by itself",
        )
    return Finding(
        "starting",
        name,
        since,
        f"{name} has not come to the log's end{_for(since, now)}: {_doing(part)}",
        "wait; queries go to other replicas meanwhile, if there are any"
        if part["kind"] == "memory"
        else "wait; queries are answered with what is there meanwhile",
    )


def _shortened(error: str) -> str:
    error = " ".join(error.split())
    return f"{error[:LONGEST]}…" if len(error) > LONGEST else error


def _parked(name: str, parked: Sequence[Mapping[str, Any]]) -> list[Finding]:
    mine = [each for each in parked if each.get("view") == name]
    if not mine:
        return []
    first = mine[0]
    what = repr(first["key"]) if first["key"] else f"all of {first['stream']}"
    place = f"{first['revision']}@{first['stream']}"
    keys = {each["key"] or each["stream"] for each in mine}
    at_least = "at least " if len(mine) >= COUNTED else ""
    more = f" and {at_least}{len(keys) - 1} more" if len(keys) > 1 else ""
    stores = " and ".join(dict.fromkeys(each["store"] for each in mine))
    error = _shortened(str(first["error"]))
    if first["store"] == "reactor":
        told = f"{name} has parked event {place}{more} ({error}): all others go on"
    else:
        told = (
            f"{name} has parked {what}{more} in {stores} at event {place}"
            f" ({error}): these rows stay as they were, all others go on"
        )
    return [
        Finding(
            "parked",
            first["store"],
            first.get("since"),
            told,
            f"`rayfold parked show {name} KEY`; correct the code and run"
            f" `rayfold parked replay {name}`, or `rayfold parked discard {name} KEY`",
        )
    ]


def _parked_elsewhere(mine: Sequence[Part], now: datetime) -> list[Finding]:
    """Return what process managers and publications have parked, as opposed to rows of a view."""
    do = {
        "process": "`rayfold processes list --parked`, then `rayfold processes retry` or `abort`",
        "publication": "`rayfold publications list`; it is tried again by itself, or at once by"
        " `rayfold publications replay`",
    }
    return [
        Finding(
            "parked",
            part["part"],
            part.get("parked_since"),
            f"{part['part']} has parked {part['parked']}{_for(part.get('parked_since'), now)}:"
            " all others go on",
            do[part["kind"]],
        )
        for part in mine
        if part["kind"] in do and part.get("parked")
    ]


def _unanswered(mine: Sequence[Part]) -> list[Finding]:
    """Return the commands that a process manager resends for lack of an answer."""
    return [
        Finding(
            "failing",
            part["part"],
            None,
            f"{part['part']} sends {part['waiting']} of its commands again, which had no answer",
            "`rayfold processes list` says why, and of which: an aggregate or middleware that"
            " fails has to be corrected",
        )
        for part in mine
        if part["kind"] == "process" and part.get("waiting")
    ]


def _not_taken(mine: Sequence[Part], now: datetime) -> list[Finding]:
    """Return what a publication's receiver does not accept at present."""
    return [
        Finding(
            "failing",
            part["part"],
            _ago(part.get("lag_seconds", 0.0), now),
            f"the receiver of {part['part']} does not accept what it is sent"
            f"{_for(_ago(part.get('lag_seconds', 0.0), now), now)}, of {part['failing']} keys"
            f" ({part.get('error') or 'no reason is known'}): they are sent again and again",
            "look at the receiver; after a while their keys are parked, and tried again later",
        )
        for part in mine
        if part.get("failing")
    ]


def _rebuilding(name: str, rebuilds: Sequence[Mapping[str, Any]]) -> list[Finding]:
    found = []
    for each in rebuilds:
        if each["view"] != name:
            continue
        if each["state"] == "failed":
            why = f"the last rebuild of {name} failed ({each.get('error')})"
            what, do = (
                f"{why}: the rows of before are still served",
                f"`rayfold rebuild {name}` again",
            )
            if each.get("would_park"):
                do = f"correct what fails, and {do}; with `--accept-parked` it is accepted"
            found.append(Finding("rebuild-failed", "", None, what, do))
        elif each["state"] != "done":
            left = each.get("seconds_left")
            soon = f", about {_lasting(left)} are left" if left is not None else ""
            what = (
                f"{name} is being rebuilt in {each['store']} for {_lasting(each['seconds'])},"
                f" {each['events_per_second']} events a second{soon}:"
                " the rows of before are served meanwhile"
            )
            found.append(Finding("rebuilding", "", None, what, "wait until it has switched"))
    return found


def _behind(name: str, part: Part, now: datetime) -> Finding | None:
    """Return why a working part is behind the log; None if it is not."""
    seconds, lag = part.get("lag_seconds", 0.0), part.get("lag", 0)
    if not part["ready"] or name in (part.get("stopped") or {}) or seconds < BEHIND or not lag:
        return None
    if part.get("failing"):
        return None  # its receiver accepts nothing, which is reported already
    since = _ago(seconds, now)
    if part.get("held_seconds", seconds) < BEHIND:  # it has just started, and the events are old
        what = f"{part['part']} is {_lasting(seconds)} behind the log, and advances"
        return Finding("catching-up", part["part"], since, what, "wait")
    if told := _waits(name, part, _lasting(part.get("held_seconds", seconds))):
        return Finding("slow", part["part"], since, *told)
    what = f"{part['part']} is {_lasting(seconds)} behind the log: {_doing(part)}"
    if part.get("working") or not _comes_closer(part):
        do = "look at what its fold does; the log may come faster than one process can fold"
        if part["kind"] == "sql":
            do = "look at what its statements do, and at locks in Postgres"
        elif (store := _store(part)) != "memory":
            do = (
                f"look at what its fold does (or at what holds {_called(store)} up);"
                f" `rayfold scale {store}:{name} N` shares the work by key"
            )
        return Finding("slow", part["part"], since, what, do)
    return Finding("catching-up", part["part"], since, what, "wait")


def _waits(name: str, part: Part, lasting: str) -> tuple[str, str] | None:
    """Return a sentence and advice for parts that fold no rows; None for all other parts."""
    called = part["part"]
    if part["kind"] == "publication":
        return (
            f"{part.get('waiting', 0)} events of {called} wait for its receiver, the first for"
            f" {lasting}",
            "look at how long the receiver takes for an event; `connections` in the target's"
            " settings says how many it is sent at a time",
        )
    if part["kind"] == "reactor":
        return (
            f"an event that {called} gets has not been done with for {lasting}: its handler takes"
            " long, or failed and is tried again",
            f"look at the log of its process; `rayfold scale reactor:{name} N` shares the work",
        )
    if part["kind"] == "process":
        return (
            f"{called} has been at an event for {lasting}: what its processes decide is not on the"
            " log yet",
            "look at the log of its process and at the event store;"
            f" `rayfold scale process:{name} N` shares the work by key",
        )
    return None


def _called(store: str) -> str:
    return store.capitalize() if store in ("postgres", "redis") else store


def _comes_closer(part: Part) -> bool:
    return bool(part.get("per_second", 0.0) > part.get("log_per_second", 0.0))


def _doing(part: Part) -> str:
    working = part.get("working")
    if working:
        return (
            f"it has been at {working['events']} events from {working['event']} on"
            f" for {working['seconds']:.0f} s"
        )
    speed, grows = part.get("per_second", 0.0), part.get("log_per_second", 0.0)
    if speed > grows:
        left = part.get("lag", 0) / (speed - grows)
        return f"it advances by {speed:.0f} positions a second, about {_lasting(left)} are left"
    if speed:
        return f"it folds {speed:.0f} positions a second, and the log grows by {grows:.0f}"
    return "it does not advance"


def _nowhere(name: str) -> Finding:
    return Finding(
        "nowhere",
        "",
        None,
        f"nothing runs {name}: its part is not known here, or it is not configured",
        "`rayfold status`; a publication needs a target in the settings",
    )
