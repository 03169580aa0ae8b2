"""The targets of the domain's publications, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.errors import StartError
from deploy.stack.publication_settings import PublicationSettings
from deploy.stack.settings import Settings
from rayfold import Registry

if TYPE_CHECKING:
    from projections.publications.settings import Configured


def check(settings: Settings, registry: Registry) -> None:
    """Refuse settings of unknown publications, before anything is started.

    Raises:
        StartError: a name is not that of a publication.
    """
    for name in settings.publications:
        if name not in registry.publications:
            known = ", ".join(registry.publications) or "none"
            raise StartError(
                f"setting publications.{name}: the domain publishes nothing of that name: {known}"
            )


def configured(settings: Settings) -> dict[str, Configured]:
    """Return the publications that have a target, by name."""
    from projections.publications.settings import Configured, Patience

    return {
        name: Configured(
            _target(each),
            settings.source or f"/{settings.stack}",
            Patience(park_after=each.park_after, retry_parked=each.retry_parked),
        )
        for name, each in settings.publications.items()
    }


def _target(given: PublicationSettings):  # type: ignore[no-untyped-def]
    from projections.publications.settings import NatsTarget, WebhookTarget

    if given.url:
        secrets = [each for each in (given.secret, given.previous_secret) if each is not None]
        return WebhookTarget(
            given.url, secrets, given.private_addresses, given.timeout, given.connections
        )
    credentials = str(given.credentials) if given.credentials else None
    return NatsTarget(
        given.nats, given.subject or "", credentials, given.timeout, given.connections
    )
