"""A NATS credentials file: a user's JWT, and the key that proves it.

The client's own `user_credentials` is not used: it needs a package that must be built where it is
installed, and it loops forever on a file without a JWT.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.errors import Error as NatsError

_PART = r"-+BEGIN {0}-+\s+(\S+)\s+-+END {0}-+"
_JWT = re.compile(_PART.format("NATS USER JWT"))
_SEED = re.compile(_PART.format("USER NKEY SEED"))


class UnusableCredentials(NatsError):
    """A credentials file lacks what NATS requires; create another with `nsc generate creds`."""


@dataclass(frozen=True)
class Credentials:
    """The content of a credentials file."""

    jwt: str
    key: Ed25519PrivateKey = field(repr=False)

    def sign(self, nonce: str) -> bytes:
        """Return a server's nonce signed, in base64."""
        return base64.b64encode(self.key.sign(nonce.encode()))


def credentials_of(path: str) -> Credentials:
    """Read a file.

    Raises:
        UnusableCredentials: it has no JWT of a user, or no key.
        OSError: it cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None:
        raise UnusableCredentials(f"{path} has no user's JWT: nsc generate creds makes one")
    if seed is None:
        raise UnusableCredentials(f"{path} has no user's key: nsc generate creds makes one")
    return Credentials(jwt[1], _key_of(seed[1], path))


def signing(path: str | None) -> dict[str, Any]:
    """Return options of `Client.connect`; the file is read again for each connection."""
    if path is None:
        return {}
    return {
        "signature_cb": lambda nonce: credentials_of(path).sign(nonce),
        "user_jwt_cb": lambda: credentials_of(path).jwt.encode(),
        # Never sent, as there is no password: but without a name the client does not sign either.
        "user": "rayfold",
    }


def _key_of(seed: str, path: str) -> Ed25519PrivateKey:
    # The key consists of two bytes for its type, 32 of the seed, and two of a checksum, in base32
    # without padding.
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        raw = b""
    if len(raw) != 36 or not seed.startswith("SU"):
        raise UnusableCredentials(f"{path} has a broken key: nsc generate creds makes one")
    return Ed25519PrivateKey.from_private_bytes(raw[2:34])
