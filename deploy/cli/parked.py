"""`rayfold parked`: rows that wait behind events that cannot be folded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from deploy.cli.asking import Data, Json, Url, ask
from deploy.cli.saying import say
from deploy.errors import StartError

app = typer.Typer(help="What is parked behind an event that cannot be folded.")


@app.command("list")
def parked_list(data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """List the rows and streams that are parked, and on which event."""
    found = _parked(data, url)
    if as_json:
        say(json.dumps({"parked": list(found)}))
        return
    from rayfold.keys import printable

    count = 0
    for each in found:
        count += 1
        what = printable(each["key"]) or "the whole stream"
        place = f"{each['stream']} revision {each['revision']}"
        say(f"{each['store']} {each['view']} {what}: {place}: {each['error']}")
    say(f"{count} parked")


@app.command("show")
def parked_show(
    view: str,
    key: Annotated[str, typer.Argument(help="Or its stream.")],
    data: Data = None,
    url: Url = None,
) -> None:
    """Show the event on which a row is parked, with its error, as JSON."""
    found = list(_parked(data, url, view=view, key=key))
    if not found:
        raise StartError(f"nothing is parked in {view!r} under {key!r}")
    for each in found:
        stream = quote(each["stream"], safe="")
        event = ask(data, url, f"/operators/events/{stream}/{each['revision']}")
        say(*json.dumps({**each, "event": event}, indent=2).splitlines())


@app.command("replay")
def parked_replay(
    view: str,
    key: Annotated[str, typer.Argument(help="All keys of the view if not given.")] = "",
    data: Data = None,
    url: Url = None,
) -> None:
    """Fold parked events again; exits 1 if one broke again."""
    replayed = ask(data, url, "/operators/replay", {"view": view, "key": key})["replayed"]
    _say_whether_parked(replayed, "folded")


@app.command("discard")
def parked_discard(
    view: str,
    key: Annotated[str, typer.Argument(help="Or its stream.")],
    data: Data = None,
    url: Url = None,
) -> None:
    """Do without the event, for good, and fold on behind it; exits 1 if a later one broke."""
    discarded = ask(data, url, "/operators/discard", {"view": view, "key": key})["discarded"]
    _say_whether_parked(discarded, "discarded")


def _parked(data: Path | None, url: str | None, **named: str) -> Iterator[dict[str, Any]]:
    """Yield what is parked, page by page: there may be as many entries as rows."""
    asked = dict(named)
    while True:
        page = ask(data, url, f"/operators/parked?{urlencode(asked, errors='surrogatepass')}")
        yield from page["parked"]
        if (cursor := page.get("next_cursor")) is None:  # an older gateway has only one page
            return
        asked["cursor"] = cursor


def _say_whether_parked(parked: list[dict[str, Any]], done: str) -> None:
    from rayfold.keys import printable

    for each in parked:
        state = "still parked" if each["parked"] else done
        say(f"{each['store']} {each['view']} {printable(each['key']) or each['stream']}: {state}")
    if any(each["parked"] for each in parked):
        raise typer.Exit(1)
