"""Where publications go, and how patient they are: told by whoever starts the stack."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr


@dataclass(frozen=True)
class WebhookTarget:
    """A URL that each event is posted to, signed with every one of `secrets`.

    `private_addresses`: it may be on a network that strangers do not reach, and without TLS.
    `timeout` is that of one attempt, in seconds.
    """

    url: str
    secrets: Sequence[SecretStr]
    private_addresses: bool = False
    timeout: float = 15.0
    connections: int = 16

    @property
    def shown(self) -> str:
        """Return it for operators: what follows the path may be a secret too."""
        return self.url.partition("?")[0]


@dataclass(frozen=True)
class NatsTarget:
    """NATS JetStream: each event goes to the subject `<subject>.<its name>`.

    `credentials` is a file as NATS makes them, with a user's JWT and key.
    """

    servers: Sequence[SecretStr]
    subject: str
    credentials: str | None = None
    timeout: float = 5.0
    connections: int = 64

    @property
    def shown(self) -> str:
        """Return it for operators, without what the servers are asked with."""
        servers = [each.get_secret_value() for each in self.servers]
        hosts = ",".join(each.rpartition("@")[2].rpartition("//")[2] for each in servers)
        return f"nats://{hosts}/{self.subject}"


Target = WebhookTarget | NatsTarget


@dataclass(frozen=True)
class Patience:
    """How long a key is tried, in seconds.

    `park_after` the first failure of an event its key is parked: others need not wait for it. What
    is parked is tried again every `retry_parked`.
    """

    first_pause: float = 0.5
    longest_pause: float = 60.0
    park_after: float = 300.0
    retry_parked: float = 300.0


@dataclass(frozen=True)
class Configured:
    """One publication as it is to run. `source` is the `source` of its CloudEvents."""

    target: Target
    source: str
    patience: Patience = field(default_factory=Patience)

    @property
    def digest(self) -> str:
        """A short text, another one if an actor that was made otherwise is no use."""
        told = repr(self) + "\n".join(each.get_secret_value() for each in _secrets(self.target))
        return hashlib.blake2b(told.encode(), digest_size=5).hexdigest()


def _secrets(target: Target) -> Sequence[SecretStr]:
    return target.servers if isinstance(target, NatsTarget) else target.secrets
