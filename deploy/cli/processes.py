"""`rayfold processes` and `rayfold schedules`: process managers and scheduled commands."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from deploy.cli.asking import Data, Json, Url, ask
from deploy.cli.saying import say

app = typer.Typer(help="Processes: what goes on between aggregates.")
schedules = typer.Typer(help="Timeouts of processes, and commands that are sent later.")

Limit = Annotated[int, typer.Option(min=1, max=1000, help="The largest number to print.")]


@app.command("list")
def processes_list(
    process: Annotated[str, typer.Argument(help="Only those of this process manager.")] = "",
    parked: Annotated[bool, typer.Option("--parked", help="Only those that are parked.")] = False,
    limit: Limit = 100,
    data: Data = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the processes that have not ended, the parked ones first."""
    asked: dict[str, Any] = {"parked": str(parked).lower(), "limit": limit}
    if process:
        asked["process"] = process
    found = ask(data, url, f"/processes?{urlencode(asked)}")
    if as_json:
        say(json.dumps(found))
        return
    for each in found["processes"]:
        about = each["error"] or (each["next_timeout"] and f"until {each['next_timeout']}") or ""
        say(f"{each['process']} {each['key']} {each['status']} {about}".rstrip())
    say(f"{found['total']} {'parked' if parked else 'open'}")


@app.command("show")
def processes_show(process: str, key: str, data: Data = None, url: Url = None) -> None:
    """Show a process as JSON: its state, what waits, and its last steps."""
    found = ask(data, url, f"/processes/{quote(process, safe='')}/{quote(key, safe='')}")
    say(*json.dumps(found, indent=2).splitlines())


@app.command("retry")
def processes_retry(process: str, key: str, data: Data = None, url: Url = None) -> None:
    """Tell a parked process again what it broke on, and then what waits behind."""
    ask(data, url, "/operators/processes/retry", {"process": process, "key": key})
    status = ask(data, url, f"/processes/{quote(process, safe='')}/{quote(key, safe='')}")["status"]
    say(f"{process} {key}: {status}")
    if status == "parked":
        raise typer.Exit(1)


@app.command("abort")
def processes_abort(
    process: str,
    key: str,
    as_it_is: Annotated[
        bool, typer.Option("--as-it-is", help="At once, without its compensation.")
    ] = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """End a process with its compensation: what is not sent yet never is, what was is undone."""
    asked = {"process": process, "key": key, "as_it_is": as_it_is}
    ask(data, url, "/operators/processes/abort", asked)
    say(f"{process} {key}: aborted")


@schedules.command("list")
def schedules_list(
    limit: Limit = 100, data: Data = None, url: Url = None, as_json: Json = False
) -> None:
    """List what is due next: timeouts of processes, and commands that are sent later."""
    found = ask(data, url, f"/operators/schedules?{urlencode({'limit': limit})}")
    if as_json:
        say(json.dumps(found))
        return
    held = [e for e in found["commands"] if e.get("error")]
    lines = [
        *(f"{e['due']} {e['process']} {e['key']} {e['timeout']}" for e in found["schedules"]),
        *(
            f"{e['due']} {e['command']} {e['stream']} {e['command_id']}"
            for e in found["commands"]
            if not e.get("error")
        ),
    ]
    for each in held:
        say(f"{each['command_id']} is not sent: {each['error']}")
    for line in sorted(lines)[: max(limit - len(held), 0)]:
        say(line)
    say(f"{found['total']} scheduled")


@schedules.command("cancel")
def schedules_cancel(
    command_id: str,
    tenant: Annotated[
        str | None, typer.Option(help="The tenant of the command, if the stack serves tenants.")
    ] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """Do not send a command that was to be sent later."""
    path = f"/commands/{quote(command_id, safe='')}"
    told = ask(data, url, path, method="DELETE", tenant=tenant)
    say(f"{told['command']} {told['stream']} {told['command_id']}: {told['status']}")
