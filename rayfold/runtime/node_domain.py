"""Loads the domain that is installed on a node, and explains why a node cannot run it."""

from __future__ import annotations

import re
from functools import cache

from rayfold import DomainError, Registry
from rayfold.runtime.middleware_layers import DomainMiddleware
from rayfold.runtime.node import node_name

ADVICE = "install it there, or bring it with RAYFOLD_RUNTIME_ENV"

LONGEST = 500
"""The most characters of Ray's message that are shown, if the error is not ours."""

_MADE = "creation task"

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"\bip=([0-9a-fA-F.:]+)")


@cache
def load_domain(package: str, tenants: bool = False) -> Registry:
    """Return the domain in the process of an actor; it is loaded once.

    `tenants`: see `Registry`.

    Raises:
        DomainError: this node does not have it, or it has mistakes; the message names the node.
    """
    try:
        return Registry.load(package, tenants=tenants)
    except DomainError as error:
        first, *more = error.mistakes
        raise DomainError(f"node {node_name()} does not run it: {first}: {ADVICE}", *more) from None


def check_middleware(registry: Registry) -> None:
    """Check, before an actor begins, that the domain's middleware can be made in its process.

    What it needs may differ from node to node: an environment variable, say.

    Raises:
        DomainError: it cannot be made here; the message names the node.
    """
    try:
        DomainMiddleware(registry)
    except DomainError as error:
        raise DomainError(f"node {node_name()} does not run it: {error}") from None


def broke_while_made(error: BaseException) -> bool:
    """Return whether an actor died of an error in its constructor, as the next one would too."""
    return _MADE in str(error)


NO_PLACE = (
    "no answer in time: perhaps no node has room for it, or the resources that the setting `claims`"
    " asks for"
)


def why_not_made(error: BaseException) -> str:
    """Return in one line why an actor did not come up; Ray's own words are its whole traceback."""
    if isinstance(error, TimeoutError) and not str(error):  # Ray waits for a place for ever
        return NO_PLACE
    text = _COLOURS.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    if "Traceback" not in text and _MADE not in text:
        return ": ".join([type(error).__name__, *([" ".join(lines)[:LONGEST]] if lines else [])])
    cause = named[-1] if named else lines[-1]
    cause = re.sub(r"^[\w.]*\bDomainError: ", "", cause)
    if cause.startswith("ModuleNotFoundError"):
        node = _ADDRESS.search(text)
        cause = f"node {node[1] if node else 'unknown'} does not run it: {cause}: {ADVICE}"
    return cause


def why_broken(error: BaseException) -> str:
    """Return why an actor's constructor fails; empty if the actor is away for another reason.

    It is shown in the status: Ray would restart the actor for ever, and reports the error only in
    the log of the actor's own process.
    """
    died = error.__cause__ or error
    return why_not_made(died) if broke_while_made(died) else ""
