"""The settings of the stack's sides, the same for every role of a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.stack.settings import Settings
from rayfold import Registry
from rayfold.runtime.identity import Identity
from rayfold.runtime.placing import Anywhere, Placing

if TYPE_CHECKING:  # they import Ray, which then reads its environment
    from actors.processes.settings import ProcessSettings
    from actors.write_settings import WriteSettings
    from projections.settings import ReadSettings


def write_settings(
    settings: Settings,
    identity: Identity,
    eventstore: str,
    postgres: str,
    *,
    epoch: int = 0,
    wanted: Mapping[str, int] | None = None,
    detached: bool = False,
    placing: Placing | None = None,
) -> WriteSettings:
    """Return the settings of the write side; `wanted` overrides the stack's settings."""
    from actors.write_settings import WriteSettings

    return WriteSettings(
        settings.domain,
        eventstore,
        hosts=(wanted or {}).get("write", settings.write_hosts),
        namespace=settings.stack,
        identity=identity,
        epoch=epoch,
        detached=detached,
        dedicated=settings.dedicated_actors,
        placing=placing or Anywhere(),
        postgres=postgres,
    )


def read_settings(
    settings: Settings,
    registry: Registry,
    identity: Identity,
    eventstore: str,
    postgres: str,
    *,
    redis: str = "",
    wanted: Mapping[str, int] | None = None,
    detached: bool = False,
    placing: Placing | None = None,
    accept_parked: bool = True,
) -> ReadSettings:
    """Return the settings of the read side; without `redis` there is no such store.

    `wanted` overrides the stack's settings.
    """
    from actors.host.state.postgres import connections_of
    from projections.settings import ReadSettings

    hosts = (wanted or {}).get("write", settings.write_hosts)
    return ReadSettings(
        settings.domain,
        eventstore,
        postgres,
        redis=redis,
        stores=settings.stores,
        memory_replicas=settings.memory_replicas,
        postgres_reads=settings.postgres_reads,
        postgres_partitions=settings.postgres_partitions,
        autoscale=settings.autoscale,
        host_connections=connections_of(registry, hosts, settings.dedicated_actors),
        wanted=wanted or {},
        namespace=settings.stack,
        identity=identity,
        accept_parked=accept_parked,
        snapshots=settings.snapshots_of_nodes,
        detached=detached,
        placing=placing or Anywhere(),
    )


def process_settings(
    settings: Settings,
    identity: Identity,
    eventstore: str,
    postgres: str,
    *,
    wanted: Mapping[str, int],
    detached: bool,
    placing: Placing,
) -> ProcessSettings:
    """Return the settings of process managers."""
    from actors.processes.settings import ProcessSettings

    return ProcessSettings(
        settings.domain,
        eventstore,
        postgres,
        namespace=settings.stack,
        identity=identity,
        wanted=wanted,
        detached=detached,
        placing=placing,
    )
