"""All publications of a domain that have a target, and operations on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.personal.opening import open_log
from projections.errors import NoSuchPublication
from projections.publications.parked_keys import BEFORE_ALL
from projections.publications.publication_actor import PublicationActor
from projections.publications.settings import Configured
from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.spawning import Spawner
from projections.supervision.watched_actors import WatchedActors, digest_of
from rayfold import Registry


class PublicationHandle(ActorHandle):
    """An actor that publishes, as its side sees it."""

    async def parked_keys(
        self, after: Sequence[Any], limit: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """See `PublicationActor.parked_keys`.

        Raises:
            ActorUnavailable: it does not answer.
        """
        number, found = await self._call("parked_keys", list(after), limit)
        return number, found

    async def parked_under(self, lanes: Sequence[str]) -> list[dict[str, Any]]:
        """See `ParkedKeys.under`.

        Raises:
            ActorUnavailable: it does not answer.
        """
        found: list[dict[str, Any]] = await self._call("parked_under", list(lanes))
        return found

    async def retry(self, key: str | None) -> dict[str, int]:
        """See `Publisher.retry`.

        Raises:
            NoSuchPublication: nothing is parked under that key.
            ActorUnavailable: it does not answer.
        """
        counts: dict[str, int] = await self._call("retry", key)
        return counts

    async def publish_again(self, after: int, until: int, key: str | None) -> dict[str, int]:
        """See `Publisher.replay`.

        Raises:
            ActorUnavailable: it does not answer.
        """
        counts: dict[str, int] = await self._call("replay", after, until, key)
        return counts


class PublicationSide:
    """Runs an actor for each configured publication; the others do not run."""

    def __init__(
        self, registry: Registry, settings: ReadSettings, configured: Mapping[str, Configured]
    ) -> None:
        """Take the configured publications by name; all are publications of the domain."""
        self._registry = registry
        self._settings = settings
        self._configured = configured
        self._log = open_log(settings.eventstore, registry, settings.postgres)
        self._actors = WatchedActors("publication", settings, self._log, registry.prefixes)

    async def start(self) -> None:
        """Start the actors and wait until they answer.

        Raises:
            ActorUnavailable: an actor does not start.
        """
        await self._actors.start([self._handle(name) for name in self._configured])

    def _handle(self, name: str) -> PublicationHandle:
        configured, settings = self._configured[name], self._settings
        # Another target or other code gives another name in Ray: no actor is adopted that publishes
        # differently.
        made_of = digest_of(configured.digest, self._registry.publications[name].fingerprint)
        spawn = Spawner(
            PublicationActor,
            "postgres",
            f"publication:{name}:{made_of}",
            settings,
            settings.domain,
            settings.eventstore,
            settings.identity,
            name,
            configured,
            settings.postgres,
        )
        return PublicationHandle(f"publication:{name}", "publication", [name], spawn, spawn.place)

    async def lose(self) -> None:
        """See `WatchedActors.lose`."""
        await self._actors.lose()

    async def heal(self) -> None:
        """See `WatchedActors.heal`."""
        await self._actors.heal()

    async def stop(self) -> None:
        """See `WatchedActors.stop`."""
        try:
            await self._actors.stop()
        finally:
            await self._log.close()

    async def end(self) -> None:
        """See `WatchedActors.end`."""
        await self._actors.end()

    def status(self) -> list[dict[str, Any]]:
        """Return every publication that runs, as parts of the stack."""
        return self._actors.status()

    async def list(
        self, publication: str = "", after: Sequence[Any] = BEFORE_ALL, limit: int = 0
    ) -> dict[str, Any]:
        """Return every publication, or one, with its position and a page of its parked keys.

        The page has at most `limit` keys, after the place `after`; without a limit it has all, as
        gateways of an older release expect.

        Raises:
            ActorUnavailable: one does not answer.
        """
        running = {handle.views[0]: handle for handle in self._handles()}
        parts = {part["publication"]: part for part in self.status() if "publication" in part}
        listed = []
        for name, definition in self._registry.publications.items():
            if publication not in ("", name):
                continue
            handle, part = running.get(name), parts.get(name, {})
            number, page = await handle.parked_keys(after, limit) if handle else (0, [])
            listed.append(
                {
                    "publication": name,
                    "carries": [each.__rayfold__.name for each in definition.carries],
                    "target": self._configured[name].target.shown if handle else None,
                    "status": _status(part) if handle else "not configured",
                    **{each: part.get(each) for each in ("position", "lag", "published", "error")},
                    "parked_keys": number,
                    "parked": [{"publication": name, **each} for each in page],
                }
            )
        return {"publications": listed}

    async def parked_under(self, name: str, lanes: Sequence[str]) -> Sequence[dict[str, Any]]:
        """Return what is parked in these lanes of a publication; nothing if it does not run.

        Raises:
            ActorUnavailable: it does not answer.
        """
        handle = self._handle_of(name)
        return await handle.parked_under(lanes) if handle and lanes else []

    async def replay(
        self,
        name: str,
        *,
        key: str | None = None,
        after: int | None = None,
        until: int | None = None,
    ) -> dict[str, int]:
        """Deliver what is parked, of a key or of all; with a range, deliver all events in it again.

        Raises:
            NoSuchPublication: none of that name runs, or nothing is parked under that key.
            ActorUnavailable: it does not answer.
        """
        handle = self._handle_of(name)
        if handle is None:
            if name in self._registry.publications:
                raise NoSuchPublication(f"{name} goes nowhere: the settings have no target for it")
            raise NoSuchPublication(f"no publication is named {name!r}")
        if after is None and until is None:
            return await handle.retry(key)
        return await handle.publish_again(after or 0, 2**63 - 1 if until is None else until, key)

    def _handle_of(self, name: str) -> PublicationHandle | None:
        return next((each for each in self._handles() if each.views == [name]), None)

    def _handles(self) -> Sequence[PublicationHandle]:
        return [each for each in self._actors.handles if isinstance(each, PublicationHandle)]


def _status(part: dict[str, Any]) -> str:
    if not part.get("ready"):
        return "not ready"
    return "parked" if part.get("parked") else "failing" if part.get("failing") else "running"
