"""Settings that name what neither the domain nor the other settings have: slips, most often.

They are told, and not refused: a release may come or go that has it, under the same settings.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploy.stack.settings import Settings
from rayfold import Registry

_OF_NO_TOKEN = {"anonymous", "default"}
"""Whom else a rate may be for. As `api.http` has them, which pulls in the server."""


def unused(settings: Settings, registry: Registry) -> Iterator[str]:
    """Give a sentence for each."""
    kept = {store for view in registry.views.values() for store in view.stores}
    for name in settings.stores:
        if name not in kept:
            yield f"setting stores.{name}: no view of the domain is kept there"
    if settings.jwt is None:  # else whoever the provider knows may have that name
        for name in settings.rates:
            if name not in {*settings.tokens, *_OF_NO_TOKEN}:
                yield f"setting rates.{name}: no token is of that name"
    if settings.tenant_rates and not settings.tenants:
        yield "setting tenant_rates: this stack serves no tenants"
    if registry.middleware:  # which may ask for any, in its code
        return
    asked = {each.needs for each in registry.commands.values()}
    asked |= {each.needs for each in registry.queries.values()}
    for name, token in settings.tokens.items():
        for each in token.permissions:
            if each not in asked:
                yield f"setting tokens.{name}.permissions: nothing of the domain needs {each!r}"
