"""Whoever is told: the port that webhooks and NATS are behind."""

from __future__ import annotations

from typing import Protocol

from projections.publications.outgoing import Outgoing
from projections.publications.settings import NatsTarget, Target


class Receiver(Protocol):
    """Takes one event after the other."""

    async def deliver(self, outgoing: Outgoing) -> None:
        """Return once the receiver has taken it.

        Raises:
            NotDelivered: it has not, or nobody knows.
        """
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


def receiver_of(target: Target) -> Receiver:
    """Return who is told at a target. Nothing is connected yet."""
    # The client of what nobody is told by takes three megabytes in each process.
    if isinstance(target, NatsTarget):
        from projections.publications.jetstream import JetStream

        return JetStream(target)
    from projections.publications.webhook import Webhook

    return Webhook(target)
