"""Ask the gateway of a running stack."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from deploy.errors import StartError

TIMEOUT = 600.0
"""Seconds: scaling and verifying take their time."""


def ask(
    gateway: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    method: str | None = None,
    token: str | None = None,
) -> Any:
    """Return the gateway's JSON answer.

    Raises:
        StartError: no gateway, or one that says no; the message is its problem's detail.
    """
    url = gateway + path
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise StartError(_detail(error)) from error
    except OSError as error:
        raise StartError(f"the gateway at {url} does not answer: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answers {error.code}"
