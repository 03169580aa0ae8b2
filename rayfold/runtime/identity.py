"""What the processes of one stack have in common: its id, its log's, and its domain's hash.

Every actor is told, and compares it with what it meets where it runs.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import version
from typing import NamedTuple

from rayfold import DomainError, Registry
from rayfold.fingerprint import fingerprint_of, fingerprint_of_model
from rayfold.runtime.node import node_name


class Identity(NamedTuple):
    """Of a stack; an empty field is not compared."""

    stack: str = ""
    store: str = ""
    domain: str = ""
    tenants: bool = False
    """Whether it serves tenants: how the domain is loaded; its hash says it too."""

    def check_domain(self, registry: Registry) -> None:
        """Compare the domain.

        Raises:
            DomainError: this node has another one.
        """
        found = domain_hash(registry)
        if self.domain and found != self.domain:
            raise DomainError(
                f"node {node_name()} has another domain ({found}, not {self.domain}):"
                " install the same there"
            )

    def check_store(self, store: str) -> None:
        """Compare the log's id.

        Raises:
            DomainError: it is another log.
        """
        if self.store and store != self.store:
            raise DomainError(
                f"node {node_name()} reaches another event store ({store}, not {self.store})"
            )


@lru_cache(maxsize=8)
def domain_hash(registry: Registry) -> str:
    """Return a short text that is another one when what the domain says or decides is another.

    Rayfold's own version counts too: code is upgraded as a domain is. It is of the sources as they
    were when it was first asked for, as what was imported from them is.
    """
    messages = [
        *((name, each.model) for name, each in sorted(registry.events.items())),
        *((name, each.model) for name, each in sorted(registry.commands.items())),
        *((name, each.model) for name, each in sorted(registry.queries.items())),
    ]
    parts = [
        version("rayfold"),
        fingerprint_of(*registry.aggregates.values(), *registry.owner),
        *(f"{name} {fingerprint_of_model(model)}" for name, model in messages),
        *(f"{name} {each.fingerprint}" for name, each in sorted(registry.views.items())),
        *(f"{[*each.reads]} {fingerprint_of(each.model)}" for each in registry.decisions.values()),
        *(f"{name} {fingerprint_of(each)}" for name, each in sorted(registry.projections.items())),
        *(
            f"{name} {each.fold_version} {fingerprint_of(each.model)}"
            for name, each in sorted(registry.processes.items())
        ),
        *(
            f"{each.name} {each.from_version} {fingerprint_of(each.upcast)}"
            for each in registry.upcasters
        ),
        *(
            f"{name} {each.order} {fingerprint_of(each.model)}"
            for name, each in sorted(registry.middleware.items())
        ),
        *sorted(f"{route.method} {route.path}" for route in registry.routes),
        *(["tenants"] if registry.tenants else []),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=9).hexdigest()
