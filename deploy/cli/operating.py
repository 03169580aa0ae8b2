"""Commands for operators: they ask the gateway, or read the log."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deploy.cli.asking import Data, Json, Url, ask
from deploy.cli.saying import say
from deploy.errors import StartError
from rayfold.foreign_text import on_one_line

app = typer.Typer()

_WITHOUT_ROWS = ("process", "publication", "reactor", "sql")
"""Kinds of parts that park other things than rows of views, which `verify` compares."""


@app.command()
def status(data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """Show every part: state, positions, lag, rates."""
    found = ask(data, url, "/operators/status")
    parts, rebuilds = found["parts"], found["rebuilds"]
    if as_json:
        say(json.dumps({"parts": parts, "rebuilds": rebuilds}))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [
        "part",
        "node",
        "ready",
        "position",
        "lag",
        "waiting",
        "aggregates",
        "parked",
        "restarts",
    ]
    table = Table(*columns, "per second", "memory MB", "error", box=None)
    for part in parts:
        # Commands for a write host, positions for readers of the log.
        rate = f"{part['per_second']:.0f}" if "per_second" in part else ""
        memory = str(part["memory_bytes"] // 1_000_000) if "memory_bytes" in part else ""
        cells = [on_one_line(part.get(column, "")) for column in columns]
        stopped = [f"{view} has stopped: {why}" for view, why in part.get("stopped", {}).items()]
        problem = part.get("error") or "; ".join(stopped)
        # As text: in a string, Rich would interpret brackets, which an error may contain.
        table.add_row(*map(Text, [*cells, rate, memory, on_one_line(problem)]))
    # Names are needed for further commands: a narrow terminal, or a pipe, must not truncate them.
    for column in table.columns:
        column.no_wrap = column.header != "error"
    needed = Console(width=10_000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)
    for line in dict.fromkeys(line for part in parts for line in _poison(part)):
        say(line)
    for each in rebuilds:
        if each["state"] == "failed":
            say(f"the last rebuild of {each['view']} failed: {each['error']}")


def _poison(part: dict[str, Any]) -> list[str]:
    store = "postgres" if part["kind"] in ("competing", "sql") else part["kind"]
    return [
        f"{store} {each['view']} {each['key'] or 'the whole stream'} is parked"
        f" at {each['event']}: {each['reason']}"
        for each in part.get("poison", ())
    ]


@app.command()
def scale(
    target: Annotated[
        str,
        typer.Argument(help="write, memory, postgres or redis; or memory:VIEW, process:NAME, …"),
    ],
    n: Annotated[int, typer.Argument(help="How many of them to run.")],
    data: Data = None,
    url: Url = None,
) -> None:
    """Set how many write hosts, replicas of memory, or partitions of a store there are."""
    ask(data, url, "/operators/scale", {"target": target, "n": n})
    say(f"{target}: {n}")


@app.command()
def rebuild(
    view: str,
    accept_parked: Annotated[
        bool, typer.Option("--accept-parked", help="Also if keys that serve would be parked.")
    ] = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Rebuild a view, or a SQL projection, in every store that keeps it, while it serves."""
    from deploy.cli.rebuild_progress import follow_rebuild

    follow_rebuild(partial(ask, data, url), view, accept_parked=accept_parked)


@app.command()
def delete(
    stream: str,
    tombstone: Annotated[
        bool, typer.Option("--tombstone", help="For good: the id can never be used again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Delete an aggregate's stream, with its snapshots and its rows in all views."""
    if not yes:
        how = "for good" if tombstone else "so that its id begins again"
        typer.confirm(f"Delete {stream} {how}? Its events cannot be brought back", abort=True)
    answer = ask(data, url, "/operators/delete", {"stream": stream, "tombstone": tombstone})
    say(f"{stream}: {'tombstoned' if tombstone else 'deleted'}")
    if answer["kept_in"]:
        say(f"rows made of several streams keep its data: {', '.join(answer['kept_in'])}")


@app.command()
def forget(
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT…", help="Ids of persons.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Destroy the keys of persons' data, and all that was decrypted; exits 1 if one is unknown."""
    from deploy.cli.forgetting import follow_forgetting

    if not yes:
        typer.confirm(f"Forget {', '.join(subjects)}? Nobody can bring it back", abort=True)
    if not follow_forgetting(partial(ask, data, url), subjects):
        raise typer.Exit(1)


@app.command()
def verify(data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """Fold the log afresh and compare every view in every store; exits 1 on a difference."""
    differences = ask(data, url, "/operators/verify")["differences"]
    if as_json:
        say(json.dumps({"differences": differences}))
    else:
        for each in differences:
            say(f"{each['store']} {each['view']} {each['key']}")
            say(f"  the log says {each['expected']}", f"  the store has {each['found']}")
        say(f"{len(differences)} differences")
        parts = ask(data, url, "/operators/status")["parts"]
        rows = (each for each in parts if each["kind"] not in _WITHOUT_ROWS)
        if any(each.get("parked") for each in rows):
            say(
                "a row whose fold fails is compared as it was before; a row that only one store"
                " refuses is a difference: see `rayfold parked list`"
            )
    if differences:
        raise typer.Exit(1)


@app.command()
def doctor(data: Data = None, as_json: Json = False) -> None:
    """Say what the settings leave open to others, and what to change for production.

    Exits 1 if anything is open.
    """
    from deploy.stack.openness import what_is_open
    from deploy.stack.settings import load

    found = what_is_open(load(data=data))
    if as_json:
        say(json.dumps({"open": [each._asdict() for each in found]}))
    else:
        for each in found:
            say(f"{each.what}:", f"  {each.change}")
        say(f"{len(found)} open")
    if found:
        raise typer.Exit(1)


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=999, help="The largest number to print.")] = 50,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what operators did, the newest first: who, when, what, and how it failed."""
    notes = ask(data, url, f"/operators/audit?limit={limit}")["audit"]
    if as_json:
        say(json.dumps({"audit": notes}))
        return
    failed = {each["asked"]: each for each in notes if each["type"] == "OperatorFailed"}
    for each in notes:
        if each["type"] == "OperatorAsked":
            said = json.dumps(each["arguments"])
            how = failed.get(each["id"])
            say(
                f"{each['at']} {each['principal']} {each['action']} {said}"
                + (f": {how['status']} {how['reason']}" if how else "")
            )


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="A view, a query, a publication, a process, …")],
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Say why a view lags, or a query waits, and what to do; exits 1 if something is wrong."""
    found = ask(data, url, f"/operators/explain/{quote(name, safe='')}")
    say(json.dumps(found) if as_json else found["sentence"])
    if not found["healthy"]:
        raise typer.Exit(1)


@app.command()
def causality(
    asked: Annotated[
        str, typer.Argument(metavar="ID", help="A command, a correlation, or REVISION@STREAM.")
    ],
    scan: Annotated[
        int, typer.Option(min=1, max=5_000_000, help="Records of the log to read each way.")
    ] = 50_000,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what happened to a command, everywhere: events, views, processes, publications."""
    from deploy.cli.causality import lines_of

    found = ask(data, url, f"/operators/causality?id={quote(asked, safe='')}&scan={scan}")
    if as_json:
        say(json.dumps(found))
        return
    for line in lines_of(found):
        say(line)


@app.command()
def events(
    stream: Annotated[str | None, typer.Option(help="One stream; else all of the domain.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones.")] = False,
    eventstore: Annotated[str | None, typer.Option(help="URI of the store.")] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Print events, one JSON object a line."""
    from deploy.cli.events import print_events, print_events_of
    from deploy.stack.settings import load

    settings = load(data=data, eventstore=eventstore, url=url)
    if url is None and (eventstore is not None or data is not None or settings.url is None):
        asyncio.run(print_events(settings, stream, follow=follow))
    elif eventstore is not None:
        raise StartError("give --eventstore or --url: each names a log")
    else:
        print_events_of(partial(ask, data, url), stream, follow=follow)
