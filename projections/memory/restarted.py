"""Starting memory replicas that came up empty, from whichever process notices first."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from projections.errors import ActorUnavailable
from projections.memory.replica_handle import ReplicaHandle

log = logging.getLogger(__name__)


async def start_restarted(replicas: Sequence[ReplicaHandle]) -> None:
    """Start new and restarted replicas: from a copy of a ready peer, if there is one.

    Any process may call this: a replica starts only once.
    """
    for replica in list(replicas):
        if replica.seen.get("started") is not False:
            continue  # it has started, or does not answer
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
