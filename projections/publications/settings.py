"""The targets of publications, and their retries, given by the process that starts the stack."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr


@dataclass(frozen=True)
class WebhookTarget:
    """A URL to which each event is posted, signed with each of `secrets`.

    `private_addresses`: it may be in a private network, and without TLS. `timeout` is that of one
    attempt, in seconds.
    """

    url: str
    secrets: Sequence[SecretStr]
    private_addresses: bool = False
    timeout: float = 15.0
    connections: int = 16

    @property
    def shown(self) -> str:
        """Return it for operators, without the query string, which may be secret."""
        return self.url.partition("?")[0]


@dataclass(frozen=True)
class NatsTarget:
    """NATS JetStream: each event goes to the subject `<subject>.<its name>`.

    `credentials` is a NATS credentials file, with a user's JWT and key.
    """

    servers: Sequence[SecretStr]
    subject: str
    credentials: str | None = None
    timeout: float = 5.0
    connections: int = 64

    @property
    def shown(self) -> str:
        """Return it for operators, without the servers' credentials."""
        servers = [each.get_secret_value() for each in self.servers]
        hosts = ",".join(each.rpartition("@")[2].rpartition("//")[2] for each in servers)
        return f"nats://{hosts}/{self.subject}"


Target = WebhookTarget | NatsTarget


@dataclass(frozen=True)
class Patience:
    """How long a key is tried, in seconds.

    A key is parked `park_after` seconds after the first failure of an event, so that others need
    not wait for it. Parked keys are tried again every `retry_parked` seconds.
    """

    first_pause: float = 0.5
    longest_pause: float = 60.0
    park_after: float = 300.0
    retry_parked: float = 300.0


@dataclass(frozen=True)
class Configured:
    """The configuration of one publication. `source` is the `source` of its CloudEvents."""

    target: Target
    source: str
    patience: Patience = field(default_factory=Patience)

    @property
    def digest(self) -> str:
        """A short text that changes when actors with the old configuration become unusable."""
        told = repr(self) + "\n".join(each.get_secret_value() for each in _secrets(self.target))
        return hashlib.blake2b(told.encode(), digest_size=5).hexdigest()


def _secrets(target: Target) -> Sequence[SecretStr]:
    return target.servers if isinstance(target, NatsTarget) else target.secrets
