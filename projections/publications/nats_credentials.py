"""A NATS credentials file: a user's JWT, and the key that shows that it is theirs.

Not by the client's own `user_credentials`: that needs a package which has to be built where it is
installed, and reads a file without a JWT for ever.
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
    """A credentials file has not what NATS asks for; make another with `nsc generate creds`."""


@dataclass(frozen=True)
class Credentials:
    """What a file has."""

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
    """Return what `Client.connect` must be told; the file is read for each connection anew."""
    if path is None:
        return {}
    return {
        "signature_cb": lambda nonce: credentials_of(path).sign(nonce),
        "user_jwt_cb": lambda: credentials_of(path).jwt.encode(),
        # Never sent, as there is no password: without a name the client does not ask for either.
        "user": "rayfold",
    }


def _key_of(seed: str, path: str) -> Ed25519PrivateKey:
    # Two bytes of what it is, the 32 of the key, two of a checksum; written without the padding.
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        raw = b""
    if len(raw) != 36 or not seed.startswith("SU"):
        raise UnusableCredentials(f"{path} has a broken key: nsc generate creds makes one")
    return Ed25519PrivateKey.from_private_bytes(raw[2:34])
