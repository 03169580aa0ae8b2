"""`rayfold publications`: published events, and those that receivers have not accepted."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from deploy.cli.asking import Data, Json, Url, ask
from deploy.cli.saying import say
from rayfold.keys import printable

app = typer.Typer(help="Publications: what others are told.")


@app.command("list")
def publications_list(data: Data = None, url: Url = None, as_json: Json = False) -> None:
    """List the publications, where each is, and the keys that are parked."""
    found = ask(data, url, "/publications")
    for each in found["publications"]:
        each["parked"] += _rest_of(each, data, url)
    if as_json:
        say(json.dumps(found))
        return
    for each in found["publications"]:
        about = [each["target"], f"lag {each['lag']}" if each["lag"] is not None else None]
        line = [each["publication"], each["status"], *about, each["error"]]
        say(" ".join(str(word) for word in line if word))
        for parked in each["parked"]:
            place = f"{parked['stream']} revision {parked['revision']}"
            what = printable(parked["key"]) or "the whole stream"
            say(f"  {what} is parked at {place}")
            say(f"    since {parked['since']}: {parked['error']}")
    parked_keys = sum(len(each["parked"]) for each in found["publications"])
    say(f"{parked_keys} parked")


def _rest_of(listed: dict[str, Any], data: Data, url: Url) -> list[dict[str, Any]]:
    """Return the other pages of what is parked: there may be as many entries as keys."""
    rest: list[dict[str, Any]] = []
    asked = {"publication": listed["publication"]}
    cursor = listed.pop("next_cursor", None)  # an older gateway has only one page
    while cursor is not None:
        page = ask(data, url, f"/publications?{urlencode({**asked, 'cursor': cursor})}")
        [one] = page["publications"]
        rest += one["parked"]
        cursor = one["next_cursor"]
    return rest


@app.command("replay")
def publications_replay(
    publication: str,
    key: Annotated[str | None, typer.Option(help="This key alone; or the stream.")] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Publish again what comes after that position.")
    ] = None,
    until: Annotated[
        int | None, typer.Option(min=0, help="Publish again what is up to that position.")
    ] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Deliver what is parked; with a range what lies in it, again. Exits 1 if not all is taken."""
    body: dict[str, Any] = {"publication": publication}
    given = {"key": key, "after": after, "until": until}
    body |= {name: value for name, value in given.items() if value is not None}
    counts = ask(data, url, "/operators/publications/replay", body)
    if "released" in counts:
        say(f"{publication}: {counts['released']} keys go on, {counts['parked']} are parked")
    else:
        failed = counts["failed_keys"]
        say(f"{publication}: {counts['published']} published again, {failed} keys failed")
    if counts.get("parked") or counts.get("failed_keys"):
        raise typer.Exit(1)
