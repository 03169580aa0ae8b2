"""Prints a command and everything it led to, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rayfold.keys import printable


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the answer of `GET /operators/causality`, indented as a tree."""
    for command in found["commands"]:
        indent = "  " * command["depth"]
        yield indent + _command(command)
        for event in command["events"]:
            yield f"{indent}  {_event(event)}"
            for each in _once(event["applications"]):
                yield f"{indent}    {_application(each)}"
            for each in event["outgoing"]:
                yield f"{indent}    {_outgoing(each)}"
        for step in command["steps"]:
            yield f"{indent}  {_step(step)}"
            for each in step["outgoing"]:
                yield f"{indent}    {_outgoing(each)}"
    if found["left_out"]:
        yield f"{found['left_out']} more records belong to it"
    if not found["complete"]:
        yield f"more may belong to it: {found['read']} records were read; --scan N reads more"


def _once(applications: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return equal entries of a view's replicas once, with the longest time among them."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in applications:
        alike = _application({**each, "within_seconds": None})
        before = found.get(alike, each)
        found[alike] = max(before, each, key=lambda one: one.get("within_seconds") or 0.0)
    return [*found.values()]


def _command(command: Mapping[str, Any]) -> str:
    name = command["command"] or "command"
    by = f" by {command['principal']}" if command["principal"] else ""
    why = f": {command['code']}: {command['detail']}" if command.get("code") else ""
    when = command["scheduled"] or {}
    due = f", not before {when['not_before']}" if when.get("not_before") else ""
    return (
        f"{name} {command['command_id'] or '(of another writer)'} {command['status']}{by}{due}{why}"
    )


def _event(event: Mapping[str, Any]) -> str:
    place = f"{event['revision']}@{event['stream']}"
    return f"{event['type']} {place} position {event['position']} {event['recorded_at'] or ''}"


def _application(each: Mapping[str, Any]) -> str:
    if each["view"] is None:
        return f"cannot be read: {each['error']}"
    within = each.get("within_seconds")
    when = "" if within is None else f" within {within:.3f} s"
    why = f": {each['error']}" if each.get("error") else ""
    return f"{each['store']} {each['view']} {printable(each['key'])}: {each['status']}{when}{why}"


def _outgoing(each: Mapping[str, Any]) -> str:
    why = f": {each['error']}" if each.get("error") else ""
    if "reactor" in each:
        return f"reactor {each['reactor']}: {each['status']}{why}"
    message = f" {each['type']} {each['id']}" if "id" in each else ""
    return f"publication {each['publication']}{message}: {each['status']}{why}"


def _step(step: Mapping[str, Any]) -> str:
    because = step["because"]
    if "timeout" in because:
        why = f" on timeout {because['timeout']}"
    elif "stream" in because:
        why = f" on {because['revision']}@{because['stream']}"
    else:
        why = f" on {because['command_id']}" if because else ""
    sends = f", sends {', '.join(step['sends'])}" if step["sends"] else ""
    error = f": {step['error']}" if step.get("error") else ""
    place = f"{step['revision']}@{step['stream']}"
    return f"process {step['process']} {step['key']}: {step['type']} {place}{why}{sends}{error}"
