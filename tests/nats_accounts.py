"""A NATS operator, an account with JetStream and one of its users, as `nsc` would create them."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3
NO_LIMITS = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
"""Without these an account has none, and that of the system must have none."""


class Key:
    """A key of NATS: an operator's, an account's or a user's."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._key = Ed25519PrivateKey.generate()
        self.public = _written(bytes([kind]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """The key itself, as a credentials file has it."""
        head = bytes([SEED | self._kind >> 5, (self._kind & 31) << 3])
        return _written(head + self._key.private_bytes_raw())

    def says(self, subject: str, claims: dict[str, Any]) -> str:
        """Return a JWT about somebody."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {"jti": "any", "iat": 1, "iss": self.public, "sub": subject, "name": subject}
        body["nats"] = {"version": 2, **claims}
        said = ".".join(_of_url(json.dumps(each).encode()) for each in (head, body))
        return f"{said}.{_of_url(self._key.sign(said.encode()))}"


class Accounts:
    """What a server is configured with, and credentials of a user whom it admits."""

    def __init__(self) -> None:
        operator, system = Key(OPERATOR), Key(ACCOUNT)
        self._account = Key(ACCOUNT)
        told = {
            each.public: operator.says(each.public, {"type": "account", "limits": limits})
            for each, limits in (
                (system, NO_LIMITS),
                (self._account, {**NO_LIMITS, **JETSTREAM}),
            )
        }
        self.config = "\n".join(
            [
                f"operator: {operator.says(operator.public, {'type': 'operator'})}",
                f"system_account: {system.public}",
                "resolver: MEMORY",
                "resolver_preload: {",
                *(f"  {name}: {jwt}" for name, jwt in told.items()),
                "}",
            ]
        )

    def write_credentials(self, path: Path) -> None:
        """Write a file with a new user of the account."""
        user = Key(USER)
        limits = {"subs": -1, "data": -1, "payload": -1}
        jwt = self._account.says(user.public, {"type": "user", **limits})
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def _written(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).rstrip(b"=").decode()


def _of_url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
