"""What an OpenAPI document is put together from, and the paths that every domain has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer"}

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Stable; names the kind of problem"},
        "title": _TEXT,
        "status": _COUNT,
        "detail": _TEXT,
        "code": {"type": "string", "description": "Of the rule that said no"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": _TEXT, "message": _TEXT, "type": _TEXT},
            },
        },
    },
}

EVENT = {
    "type": "object",
    "properties": {
        "type": _TEXT,
        "revision": _COUNT,
        "position": _COUNT,
        "recorded_at": {"type": "string", "format": "date-time"},
        "data": {"type": "object"},
        "metadata": {"type": "object"},
    },
}

_COMMAND_STATUS = {
    "type": "object",
    "required": ["command_id", "status"],
    "properties": {
        "command_id": {"type": "string", "format": "uuid"},
        "status": {"enum": ["processing", "projected", "rejected"]},
        "behind": {"type": "array", "items": _TEXT, "description": "Views without it yet"},
        "stream": _TEXT,
        "revision": _COUNT,
        "position": _COUNT,
        "code": {"type": "string", "description": "Why it was rejected"},
        "detail": _TEXT,
    },
}

_PARTS = {
    "type": "object",
    "properties": {
        "parts": {"type": "array", "items": {"type": "object"}},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def ref(model: str) -> dict[str, Any]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{model}"}


def parameter(
    name: str, place: str, description: str, schema: Mapping[str, Any] = _TEXT
) -> dict[str, Any]:
    """A parameter in the path, the query string or a header."""
    made: dict[str, Any] = {"name": name, "in": place, "schema": schema}
    if place == "path":
        made["required"] = True
    if description:
        made["description"] = description
    return made


def answer(
    description: str, schema: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A response in JSON."""
    made: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    if headers:
        made["headers"] = {
            name: {"description": text, "schema": _TEXT} for name, text in headers.items()
        }
    return made


def problems(described: Mapping[str, str]) -> dict[str, Any]:
    """Responses that are problems, by status."""
    content = {"application/problem+json": {"schema": ref("Problem")}}
    return {status: {"description": text, "content": content} for status, text in described.items()}


def _operation(summary: str, *parameters: dict[str, Any], **responses: Any) -> dict[str, Any]:
    made = {"summary": summary, "responses": {name[1:]: each for name, each in responses.items()}}
    return {**made, "parameters": list(parameters)} if parameters else made


def gateway_paths() -> dict[str, Any]:
    """Paths by template: commands and queries by name, and what operators use."""
    name = parameter("name", "path", "")
    command_id = parameter(
        "name", "path", "The command id, or the Idempotency-Key it was sent with"
    )
    body = {"content": {"application/json": {"schema": {"type": "object"}}}}
    unknown = problems({"404": "Unknown"})
    scale = {
        "type": "object",
        "required": ["target", "n"],
        "properties": {
            "target": {"type": "string", "examples": ["write", "memory", "postgres"]},
            "n": {"type": "integer", "minimum": 1},
        },
    }
    html = {"description": "The page", "content": {"text/html": {"schema": _TEXT}}}
    text = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": _TEXT}}}
    found = answer("The answer, as on the query's own route", {"type": "object"})
    invalid = problems({"422": "There cannot be so many, or there is no such target"})
    return {
        "/commands/{name}": {
            "post": {
                **_operation(
                    "Any command of the domain",
                    name,
                    _202=answer("The receipt", ref("Receipt")),
                    _404=unknown["404"],
                ),
                "requestBody": body,
            },
            "get": _operation(
                "What became of a recent command",
                command_id,
                _200=answer("What is known", _COMMAND_STATUS),
                _404=unknown["404"],
            ),
        },
        "/queries/{name}": {
            "get": _operation("Any query of the domain", name, _200=found, _404=unknown["404"])
        },
        "/health/live": {
            "get": _operation("The gateway answers", _200=answer("Yes", {"type": "object"}))
        },
        "/health/ready": {
            "get": _operation(
                "Every part can serve",
                _200=answer("Yes", {"type": "object"}),
                _503=problems({"503": "No: names the parts"})["503"],
            )
        },
        "/metrics": {"get": _operation("Counters and gauges", _200=text)},
        "/console": {"get": _operation("The operators' page", _200=html)},
        "/operators/status": {"get": _operation("Every part", _200=answer("They", _PARTS))},
        "/operators/verify": {
            "get": _operation(
                "Compares every view in every store with a fresh fold of the log",
                _200=answer("The differences", {"type": "object"}),
            )
        },
        "/operators/scale": {
            "post": {
                **_operation(
                    "Sets the number of a target's parts",
                    _200=answer("Done", scale),
                    _422=invalid["422"],
                ),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": scale}},
                },
            }
        },
    }
