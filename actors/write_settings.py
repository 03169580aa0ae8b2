"""Settings of the write side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from actors.host.limits import HostLimits
from rayfold.runtime.identity import Identity
from rayfold.runtime.placing import Anywhere, Placing


def made_with(eventstore: str, postgres: str) -> str:
    """Return what tells the settings of actors apart, with the passwords in them."""
    told = f"{eventstore}\n{postgres}"
    return hashlib.blake2b(told.encode(), digest_size=5).hexdigest()


@dataclass(frozen=True)
class WriteSettings:
    """`domain` is a package, `eventstore` a URI. `dedicated` bounds actors of their own
    (55 MB each); `dedicated_idle` is in seconds. The stack's id is in the name of every actor:
    stacks of one namespace share none. `epoch` is the owner's. `detached` actors outlive whoever
    made them. `postgres` is a DSN, needed where states are stored."""

    domain: str
    eventstore: str
    hosts: int = 1
    namespace: str = "rayfold"
    identity: Identity = field(default_factory=Identity)
    epoch: int = 0
    detached: bool = False
    dedicated: int = 24
    dedicated_idle: float = 60.0
    limits: HostLimits = field(default_factory=HostLimits)
    placing: Placing = field(default_factory=Anywhere)
    postgres: str = ""

    @property
    def made_with(self) -> str:
        """A short text, another one if actors that were made with other settings are no use."""
        return made_with(self.eventstore, self.postgres)

    @property
    def release(self) -> str:
        """What the names of detached actors end with: those of other code are other ones."""
        return f"@{self.identity.domain}" if self.detached and self.identity.domain else ""

    def host_name(self, number: int | str, release: str = "") -> str:
        """Return the name of a host's actor."""
        return f"rayfold:{self.identity.stack}:write#{number}{release}"

    def dedicated_name(self, stream: str, release: str = "") -> str:
        """Return the name of an aggregate's own actor."""
        return f"rayfold:{self.identity.stack}:aggregate:{stream}{release}"
