"""The `rayfold` command. Imports happen inside the commands: `--help` is to be quick."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deploy.errors import StartError

app = typer.Typer(
    help="CQRS and event sourcing on Ray: aggregates as actors, views that scale on their own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

parked_app = typer.Typer(help="What stands still behind an event that cannot be folded.")
app.add_typer(parked_app, name="parked", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option(help="The data folder; .rayfold by default.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to serve on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on; 8000 by default.")] = None,
    data: Data = None,
    eventstore: Annotated[
        str | None, typer.Option(help="URI of a KurrentDB or EventStoreDB; else our own.")
    ] = None,
    postgres: Annotated[str | None, typer.Option(help="DSN; else a server of our own.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster; else our own.")] = None,
    domain: Annotated[str | None, typer.Option(help="The package to run.")] = None,
) -> None:
    """Start everything that is not given, and serve until Ctrl-C."""
    import uvloop

    from deploy.stack.settings import load
    from deploy.stack.up import up as run
    from rayfold.runtime.log_format import log_to_stderr

    log_to_stderr()
    settings = load(
        host=host,
        port=port,
        data=data,
        eventstore=eventstore,
        postgres=postgres,
        ray_address=ray_address,
        domain=domain,
    )
    try:
        code = uvloop.run(run(settings))
    except KeyboardInterrupt:  # before our own handler was there, or after Ray's was
        code = 130
    raise typer.Exit(code)


@app.command()
def eventstore(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 2113,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    data: Data = None,
    system_projections: Annotated[
        bool, typer.Option(help="Run $by_category, $by_event_type and $streams.")
    ] = False,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; with the key, listen with TLS.")
    ] = None,
    tls_private_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
) -> None:
    """Run the embedded event store alone."""
    from deploy.stack.settings import load
    from eventstore.embedded.main import run

    folder = load(data=data).data / "eventstore"
    raise typer.Exit(run(host, port, folder, system_projections, tls_certificate, tls_private_key))


@app.command()
def status(data: Data = None, as_json: Json = False) -> None:
    """Show every part: state, positions, lag."""
    parts = _ask(data, "/operators/status")["parts"]
    if as_json:
        typer.echo(json.dumps({"parts": parts}))
        return
    from rich.console import Console
    from rich.table import Table

    columns = ["part", "ready", "position", "lag", "waiting", "aggregates", "parked", "restarts"]
    table = Table(*columns, "memory MB", "error", box=None)
    for part in parts:
        memory = str(part["memory_bytes"] // 1_000_000) if "memory_bytes" in part else ""
        cells = [str(part.get(column, "")) for column in columns]
        trouble = part.get("error") or part.get("stopped") or ""
        table.add_row(*cells, memory, str(trouble))
    Console().print(table)


@app.command()
def scale(target: str, n: int, data: Data = None) -> None:
    """Set the number of: write, memory, postgres, memory:VIEW, postgres:VIEW."""
    _ask(data, "/operators/scale", {"target": target, "n": n})
    typer.echo(f"{target}: {n}")


@app.command()
def rebuild(view: str, data: Data = None) -> None:
    """Fold a view, or a SQL projection, anew in every store that keeps it, while it serves."""
    from deploy.cli.rebuild_progress import follow_rebuild

    follow_rebuild(partial(_ask, data), view)


@parked_app.command("list")
def parked_list(data: Data = None, as_json: Json = False) -> None:
    """The rows and streams that stand still, and on which event."""
    found = _ask(data, "/operators/parked")["parked"]
    if as_json:
        typer.echo(json.dumps({"parked": found}))
        return
    for each in found:
        what = each["key"] or "the whole stream"
        place = f"{each['stream']} revision {each['revision']}"
        typer.echo(f"{each['store']} {each['view']} {what}: {place}: {each['error']}")
    typer.echo(f"{len(found)} parked")


@parked_app.command("show")
def parked_show(
    view: str,
    key: Annotated[str, typer.Argument(help="Or its stream.")],
    data: Data = None,
) -> None:
    """The event on which a row stands still, with its error, as JSON."""
    found = [
        each
        for each in _ask(data, "/operators/parked")["parked"]
        if each["view"] == view and key in (each["key"], each["stream"])
    ]
    if not found:
        raise StartError(f"nothing is parked in {view!r} under {key!r}")
    for each in found:
        event = _ask(data, f"/operators/events/{quote(each['stream'])}/{each['revision']}")
        typer.echo(json.dumps({**each, "event": event}, indent=2))


@parked_app.command("replay")
def parked_replay(
    view: str,
    key: Annotated[str, typer.Argument(help="All of the view without.")] = "",
    data: Data = None,
) -> None:
    """Fold parked events again; exits 1 if one broke again."""
    replayed = _ask(data, "/operators/replay", {"view": view, "key": key})["replayed"]
    _say_whether_parked(replayed, "folded")


@parked_app.command("discard")
def parked_discard(
    view: str,
    key: Annotated[str, typer.Argument(help="Or its stream.")],
    data: Data = None,
) -> None:
    """Do without the event, for good, and fold on behind it; exits 1 if a later one broke."""
    discarded = _ask(data, "/operators/discard", {"view": view, "key": key})["discarded"]
    _say_whether_parked(discarded, "discarded")


def _say_whether_parked(parked: list[dict[str, Any]], done: str) -> None:
    for each in parked:
        state = "still parked" if each["parked"] else done
        typer.echo(f"{each['store']} {each['view']} {each['key'] or each['stream']}: {state}")
    if any(each["parked"] for each in parked):
        raise typer.Exit(1)


@app.command()
def delete(
    stream: str,
    tombstone: Annotated[
        bool, typer.Option("--tombstone", help="For good: the id can never be used again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Delete an aggregate's stream, with its snapshots and its rows in all views."""
    if not yes:
        how = "for good" if tombstone else "so that its id begins anew"
        typer.confirm(f"Delete {stream} {how}? Its events cannot be brought back", abort=True)
    _ask(data, "/operators/delete", {"stream": stream, "tombstone": tombstone})
    typer.echo(f"{stream}: {'tombstoned' if tombstone else 'deleted'}")


@app.command()
def verify(data: Data = None, as_json: Json = False) -> None:
    """Fold the log afresh and compare every view in every store; exits 1 on a difference."""
    differences = _ask(data, "/operators/verify")["differences"]
    if as_json:
        typer.echo(json.dumps({"differences": differences}))
    else:
        for each in differences:
            typer.echo(f"{each['store']} {each['view']} {each['key']}")
            typer.echo(f"  the log says {each['expected']}\n  the store has {each['found']}")
        typer.echo(f"{len(differences)} differences")
    if differences:
        raise typer.Exit(1)


@app.command()
def events(
    stream: Annotated[str | None, typer.Option(help="One stream; else all of the domain.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones.")] = False,
    eventstore: Annotated[str | None, typer.Option(help="URI of the store.")] = None,
    data: Data = None,
) -> None:
    """Print events, one JSON object a line."""
    from deploy.cli.events import print_events
    from deploy.stack.settings import load

    settings = load(data=data, eventstore=eventstore)
    asyncio.run(print_events(settings, stream, follow=follow))


def _ask(data: Path | None, path: str, body: dict[str, Any] | None = None) -> Any:
    from deploy.cli.gateway_client import ask
    from deploy.stack.settings import load

    return ask(load(data=data).data, path, body)


def main() -> None:
    """The console script: what keeps a command from its work is one line, and exit code 2."""
    try:
        app()
    except StartError as error:
        sys.stderr.write(f"rayfold: {' '.join(str(error).split())}\n")
        sys.exit(2)
