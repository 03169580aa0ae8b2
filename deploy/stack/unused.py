"""Settings and environment variables for things that do not exist: usually typing errors.

They are reported but not refused: the same settings may serve a release that has these things.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from deploy.stack.settings import Settings
from rayfold import Registry

_OF_NO_TOKEN = {"anonymous", "default"}
"""Principals without a token that rates may be for, as in `api.http`, whose import would load the
server.
"""


_PREFIX = "RAYFOLD_"

_NEAR = 0.8
"""The similarity at which a name counts as a typing error: Kubernetes derives variables from the
names of services, such as `RAYFOLD_SERVICE_PORT`.
"""


def unused(
    settings: Settings, registry: Registry, variables: Iterable[str] = os.environ
) -> Iterator[str]:
    """Yield a sentence for each."""
    yield from _slips(variables)
    kept = {store for view in registry.views.values() for store in view.stores}
    for name in settings.stores:
        if name not in kept:
            yield f"setting stores.{name}: no view of the domain is kept there"
    if settings.jwt is None:  # otherwise any user of the provider may have that name
        for name in settings.rates:
            if name not in {*settings.tokens, *_OF_NO_TOKEN}:
                yield f"setting rates.{name}: no token has that name"
    if settings.tenant_rates and not settings.tenants:
        yield "setting tenant_rates: this stack serves no tenants"
    if registry.middleware:  # which may require any of them in its code
        return
    asked = {each.needs for each in registry.commands.values()}
    asked |= {each.needs for each in registry.queries.values()}
    for name, token in settings.tokens.items():
        for each in token.permissions:
            if each not in asked:
                yield f"setting tokens.{name}.permissions: nothing of the domain needs {each!r}"


def _slips(variables: Iterable[str]) -> Iterator[str]:
    settings = Settings.model_fields
    for variable in sorted(variables):
        prefix, name = variable[: len(_PREFIX)].upper(), variable[len(_PREFIX) :].lower()
        if prefix != _PREFIX or name in settings:
            continue
        for meant in get_close_matches(name, settings, n=1, cutoff=_NEAR):
            yield f"variable {variable}: is it {_PREFIX}{meant.upper()}?"
