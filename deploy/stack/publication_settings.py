"""The settings of publications; invalid ones are reported in a sentence."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_PRINTABLE = re.compile(r"[!-~]+")


class PublicationSettings(BaseModel):
    """Where a publication goes: to a webhook (`url`, `secret`), or to NATS (`nats`, `subject`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    """The URL of a webhook: https, or http with `private_addresses`."""
    secret: SecretStr | None = None
    """The secret that signs each request: `whsec_` and 24 to 64 bytes in base64."""
    previous_secret: SecretStr | None = None
    """The former secret, which signs too until the receiver has the new one."""
    private_addresses: bool = False
    """Whether the webhook may have a private address: on loopback or in an internal network."""
    nats: list[SecretStr] = []
    """Servers: `nats://host:4222`, or `tls://…`, with `user:password@` if they need it."""
    subject: str | None = None
    """The prefix of the subjects: events go to `SUBJECT.<name of the integration event>`."""
    credentials: Path | None = None
    """A NATS credentials file; it must be on the node that publishes."""
    timeout: float = Field(default=15.0, gt=0, le=300)
    """Seconds for one attempt."""
    connections: int = Field(default=16, ge=1, le=1000)
    """How many events may be in flight at a time, each of another key."""
    park_after: float = Field(default=300.0, gt=0)
    """Seconds from the first failure of an event until its key is parked."""
    retry_parked: float = Field(default=300.0, gt=0)
    """Seconds until a parked key is tried again."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if bool(self.url) == bool(self.nats):
            raise ValueError("needs either url (of a webhook) or nats (its servers)")
        if self.nats:
            self._check_nats()
        else:
            self._check_webhook()
        return self

    def _check_webhook(self) -> None:
        schemes = ("https", "http") if self.private_addresses else ("https",)
        parts = _url(self.url or "")
        if parts is None or parts.scheme not in schemes:
            advice = "" if self.private_addresses else ", or http with private_addresses"
            raise ValueError(f"url is not an https URL{advice}: {self.url!r}")
        if parts.username is not None or parts.fragment or not _PRINTABLE.fullmatch(self.url or ""):
            raise ValueError("url must have no user, no #fragment, no blanks and only ASCII")
        if self.subject or self.credentials:
            raise ValueError("subject and credentials are for nats, not for a url")
        if self.secret is None:
            raise ValueError("a webhook needs a secret to sign with: whsec_…")
        for name in ("secret", "previous_secret"):
            given: SecretStr | None = getattr(self, name)
            if given is not None and not _is_webhook_secret(given.get_secret_value()):
                raise ValueError(f"{name} must be whsec_ and 24 to 64 bytes in base64")

    def _check_nats(self) -> None:
        for each in self.nats:
            parts = _url(each.get_secret_value())
            if parts is None or parts.scheme not in ("nats", "tls"):
                raise ValueError("nats must have URLs like nats://host:4222")
        if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", self.subject or ""):
            raise ValueError(f"subject must be words joined by dots, without *: {self.subject!r}")
        if self.secret or self.previous_secret or self.private_addresses:
            raise ValueError("secret and private_addresses are for a url, not for nats")


def _url(text: str) -> SplitResult | None:
    """Return a URL that has a host and a valid port."""
    try:
        parts = urlsplit(text)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _is_webhook_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64
