"""The port for receivers: implemented by webhooks and NATS."""

from __future__ import annotations

from typing import Protocol

from projections.publications.outgoing import Outgoing
from projections.publications.settings import NatsTarget, Target


class Receiver(Protocol):
    """Receives one event after the other."""

    async def deliver(self, outgoing: Outgoing) -> None:
        """Return once the receiver has accepted it.

        Raises:
            NotDelivered: it has not, or that is unknown.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def receiver_of(target: Target) -> Receiver:
    """Return the receiver of a target; nothing is connected yet."""
    # Imported only if needed: NATS' client takes three megabytes in each process.
    if isinstance(target, NatsTarget):
        from projections.publications.jetstream import JetStream

        return JetStream(target)
    from projections.publications.webhook import Webhook

    return Webhook(target)
