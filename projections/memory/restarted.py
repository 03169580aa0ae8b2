"""Starts memory replicas that have come up empty."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from projections.errors import ActorUnavailable
from projections.memory.replica_handle import ReplicaHandle

log = logging.getLogger(__name__)


async def start_restarted(replicas: Sequence[ReplicaHandle]) -> None:
    """Let new and restarted ones begin: with a copy of a peer that is ready, where one is.

    Any process may say so: a replica begins once.
    """
    for replica in list(replicas):
        if replica.seen.get("started") is not False:
            continue  # it has begun, or does not answer
        peers = [
            peer
            for peer in replicas
            if peer.ready and peer is not replica and set(peer.views) >= set(replica.views)
        ]
        peer = min(peers, key=lambda each: each.open, default=None)
        try:
            await replica.start(peer)
        except ActorUnavailable as error:
            log.info("a replica did not start", extra={"actor": replica.name, "error": error})
