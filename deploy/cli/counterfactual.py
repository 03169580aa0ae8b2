"""The command that tries a change of a domain's code against the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.asking import Data
from deploy.cli.saying import say

if TYPE_CHECKING:
    from deploy.authoring.counterfactual.walk import Summary
    from deploy.stack.settings import Settings

app = typer.Typer()

NOT_KEPT = (
    ": no aggregate has kept its commands. Declare it with keep_commands=True; commands that are"
    " sent from then on can be decided again"
)


@app.command()
def counterfactual(
    since: Annotated[
        int | None, typer.Option(min=0, help="Only commands after this position of the log.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Only this one's aggregates.")] = None,
    domain: Annotated[str | None, typer.Option(help="The package with the domain.")] = None,
    eventstore: Annotated[str | None, typer.Option(help="URI of the store.")] = None,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Decide recorded commands again with the code at hand; exits 1 on a difference."""
    from deploy.stack.settings import load

    settings = load(data=data, domain=domain, eventstore=eventstore)
    summary = asyncio.run(_run(settings, since, category, as_json))
    if summary.different:
        raise typer.Exit(1)


async def _run(
    settings: Settings, since: int | None, category: str | None, as_json: bool
) -> Summary:
    """Print findings as they are found.

    Raises:
        StartError: the domain or the store cannot be read, or nothing could be decided.
    """
    from deploy.authoring.counterfactual.walk import Counterfactual
    from deploy.cli.events import postgres_of, store_of
    from deploy.errors import StartError
    from eventstore.errors import StoreError
    from eventstore.kurrentdb.connection import without_password
    from eventstore.personal.opening import open_log
    from eventstore.tenancy import MixedTenancy, check_tenancy
    from rayfold import DomainError, Registry

    try:
        registry = Registry.load(settings.domain, tenants=settings.tenants)
    except DomainError as error:
        raise StartError(*error.mistakes) from error
    if category is not None and category not in registry.aggregates:
        known = ", ".join(sorted(registry.aggregates))
        raise StartError(f"no aggregate has the category {category!r}; there are {known}")
    uri = settings.eventstore or store_of(settings)
    log = open_log(uri, registry, postgres_of(settings, registry), to_compare=True)
    try:
        await check_tenancy(log, registry.prefixes, tenants=registry.tenants)
        if since is not None and since > (end := await log.end_position(None)):
            raise StartError(f"--since {since} is after the end of this log, position {end}")
        walk = Counterfactual(registry, log, since=since, category=category)
        async for finding in walk.findings():
            found = finding.as_json()
            for line in [json.dumps(found)] if as_json else _lines(found):
                say(line)
    except MixedTenancy as error:
        raise StartError(str(error)) from error
    except StoreError as error:
        raise StartError(
            f"the event store at {without_password(uri)} cannot be read: {error}"
        ) from error
    finally:
        await log.close()
    summary = walk.summary
    if as_json:
        say(json.dumps({"summary": summary.as_json()}))
    else:
        for line in _summary(summary.as_json()):
            say(line)
    if summary.says_nothing:
        raise StartError(
            "none of the commands could be decided, so the code was not tested"
            + ("" if summary.not_decidable else NOT_KEPT)
        )
    return summary


def _lines(found: dict[str, Any]) -> Iterator[str]:
    place = f"{found['revision']}@{found['stream']}"
    yield f"{found['command']} {place} position {found['position']}: {found['verdict']}"
    yield f"  command  {json.dumps(found['payload'])}"
    if "perhaps_rewritten" in found:
        yield "           as it was sent: changes by middleware are not recorded (keep_commands)"
    yield from (_event("recorded", each) for each in found["recorded"])
    if "why" in found:
        yield f"  {found['why'].replace('_', ' ')}: {found['reason']}"
        return
    now = found["now"]
    if "rejected" in now:
        yield f"  now      rejected, {now['rejected']}: {now['detail']}"
    elif "error" in now:
        yield f"  now      fails, {now['error']}"
    elif not now["events"]:
        yield "  now      nothing"
    else:
        yield from (_event("now     ", each) for each in now["events"])


def _event(when: str, event: dict[str, Any]) -> str:
    return f"  {when} {event['type']} {event['stream']} {json.dumps(event['data'])}"


def _summary(counts: dict[str, Any]) -> Iterator[str]:
    yield f"{counts['decided']} commands decided again: {counts['same']} same, " + (
        f"{counts['different']} different"
    )
    for why, count in counts["not_decidable"].items():
        yield f"{count} not decidable: {why.replace('_', ' ')}"
    if counts["not_kept"]:
        yield f"{counts['not_kept']} not decided: the log has their events but not the commands"
    if counts["foreign_events"]:
        yield f"{counts['foreign_events']} events of other writers"
    yield "commands that were rejected when they were sent are not on the log"
