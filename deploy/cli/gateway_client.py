"""Requests to the gateway of a running stack."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from deploy.errors import StartError
from eventstore.kurrentdb.loopback import is_loopback

_OPTIONS = {"/problems/tenant-needed": "the stack serves tenants: name the tenant with --tenant"}
"""Texts instead of a problem's detail, which names what a program would send."""

TIMEOUT = 600.0
"""The timeout in seconds: scaling and verifying take their time."""


def ask(
    gateway: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    method: str | None = None,
    token: str | None = None,
    tenant: str | None = None,
) -> Any:
    """Return the gateway's JSON answer.

    Raises:
        StartError: there is no gateway, or it refuses; the message is its problem's detail.
    """
    url = gateway + path
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if tenant is not None:
        headers["Rayfold-Tenant"] = tenant
    content = json.dumps(body).encode() if body is not None else None
    try:
        request = urllib.request.Request(url, content, headers, method=method)
        with _opener(url).open(request, timeout=TIMEOUT) as answer:
            return _Answer(json.load(answer))
    except urllib.error.HTTPError as error:
        told = _detail(error)
        if error.code == 401:
            where = "set an operator's token in ./rayfold.toml or RAYFOLD_TOKEN"
            told += f": {where}"
        raise StartError(told) from error
    except OSError as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise StartError(f"the gateway at {gateway} does not answer: {why}") from error
    except (ValueError, TypeError, http.client.HTTPException) as error:
        # An invalid URL, a token that no header can hold, another protocol, or another kind of
        # answer.
        raise StartError(f"no gateway can be asked at {url}: {error}") from error


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Use the environment's `http_proxy`, like any client, but not for this machine.

    A proxy elsewhere resolves that name to another machine, and would see our token.
    """
    here = is_loopback(urlsplit(url).hostname or "")
    own = [urllib.request.ProxyHandler({})] if here else []
    return urllib.request.build_opener(_Stays, *own)


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would send the token along, for example to a sign-in page."""

    def redirect_request(self, *_: Any) -> None:
        """See `HTTPRedirectHandler`."""


class _Answer(dict[str, Any]):
    """A gateway's answer; another program, or a later gateway, may lack parts of it."""

    def __missing__(self, key: str) -> Any:
        raise StartError(f"the server is not a gateway of this version: its answer has no {key!r}")


def _detail(error: urllib.error.HTTPError) -> str:
    if (elsewhere := error.headers.get("Location")) is not None:
        return f"the gateway redirects ({error.code}) to {elsewhere}: give that URL"
    try:
        problem = json.load(error)
        return _OPTIONS.get(problem.get("type", "")) or str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the gateway answers {error.code}"
