"""What the processes of one stack have in common: its id, its log's, and its domain's hash.

Every actor receives it, and compares it with the log and the domain that it finds on its node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from rayfold import DomainError, Registry
from rayfold.aggregate import AggregateType
from rayfold.fingerprint import declared, fingerprint_of, fingerprint_of_model
from rayfold.runtime.node import node_name
from rayfold.sql_projection import SqlProjection

T = TypeVar("T")


class Identity(NamedTuple):
    """The identity of a stack; an empty field is not compared."""

    stack: str = ""
    store: str = ""
    domain: str = ""
    tenants: bool = False
    """Whether the stack serves tenants, which the domain's hash includes too."""

    def check_domain(self, registry: Registry) -> None:
        """Compare the domain with that of the stack.

        Raises:
            DomainError: this node has another domain.
        """
        found = domain_hash(registry)
        if self.domain and found != self.domain:
            raise DomainError(
                f"node {node_name()} has another domain ({found}, not {self.domain}):"
                " install the same there"
            )

    def check_store(self, store: str) -> None:
        """Compare the id of the log with that of the stack.

        Raises:
            DomainError: it is another log.
        """
        if self.store and store != self.store:
            raise DomainError(
                f"node {node_name()} reaches another event store ({store}, not {self.store})"
            )


@lru_cache(maxsize=8)
def domain_hash(registry: Registry) -> str:
    """Return a short text that changes whenever what the domain declares or does changes.

    All that is declared counts, because `rayfold upgrade` does nothing if the hash is the same.

    Rayfold's own version counts too, since its code is upgraded in the same way. The hash is of the
    sources as they were when it was first computed, as is the code imported from them.
    """
    messages: list[Any] = [
        *_in_order(registry.events),
        *_in_order(registry.commands),
        *_in_order(registry.queries),
    ]
    parts = [
        version("rayfold"),
        fingerprint_of(*registry.aggregates.values(), *registry.owner),
        *(_said_of(each) for each in _in_order(registry.aggregates)),
        *(f"{declared(each)} {fingerprint_of_model(each.model)}" for each in messages),
        *(f"{declared(each)} {each.fingerprint}" for each in _in_order(registry.views)),
        *(f"{declared(each)} {fingerprint_of(each.model)}" for each in registry.decisions.values()),
        *(_said_of_tables(each) for each in _in_order(registry.projections)),
        *(
            f"{declared(each)} {each.fingerprint} {fingerprint_of(each.model)}"
            for each in _in_order(registry.processes)
        ),
        *(f"{declared(each)} {each.fingerprint}" for each in _in_order(registry.publications)),
        *(declared(each) for each in _in_order(registry.integration_events)),
        *(f"{declared(each)} {each.fingerprint}" for each in _in_order(registry.reactors)),
        *(
            f"{each.name} {each.from_version} {fingerprint_of(each.upcast)}"
            for each in registry.upcasters
        ),
        *(
            f"{declared(each)} {fingerprint_of(each.model)}"
            for each in _in_order(registry.middleware)
        ),
        *sorted(declared(each) for each in registry.routes),
        *(["tenants"] if registry.tenants else []),
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=9).hexdigest()


def _in_order(known: Mapping[str, T]) -> list[T]:
    return [each for _, each in sorted(known.items())]


def _said_of(aggregate: AggregateType) -> str:
    keywords = [
        aggregate.category,
        aggregate.id_field,
        aggregate.placement,
        aggregate.snapshot_every,
        aggregate.storage,
        aggregate.keep_commands,
        aggregate.commands,
        aggregate.events,
    ]
    return f"{declared(keywords)} {aggregate.fold_fingerprint()}"


def _said_of_tables(projection: type[SqlProjection]) -> str:
    keywords = [projection.name, projection.version, projection.on_poison, projection.schema]
    return f"{declared(keywords)} {fingerprint_of(projection)}"
