"""Commands that run processes: the whole stack, or the store alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from deploy.cli.asking import Data
from deploy.cli.saying import say

if TYPE_CHECKING:
    from deploy.stack.settings import Settings

app = typer.Typer()


Host = Annotated[str | None, typer.Option(help="Address to serve on.")]
Port = Annotated[int | None, typer.Option(help="Port to serve on; 8000 by default.")]
Store = Annotated[str | None, typer.Option(help="URI of a KurrentDB or EventStoreDB.")]
Postgres = Annotated[str | None, typer.Option(help="DSN.")]
Redis = Annotated[str | None, typer.Option(help="URL, for views that name redis.")]
Ray = Annotated[str | None, typer.Option(help="A Ray cluster.")]
Domain = Annotated[str | None, typer.Option(help="The package to run.")]
StackName = Annotated[
    str | None, typer.Option(help="The stack's name, and Ray's namespace; rayfold by default.")
]


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    eventstore: Annotated[
        str | None, typer.Option(help="URI of a KurrentDB or EventStoreDB; else our own.")
    ] = None,
    postgres: Annotated[str | None, typer.Option(help="DSN; else a server of our own.")] = None,
    redis: Annotated[
        str | None,
        typer.Option(help='URL, or "embedded"; else a server of our own where a view needs it.'),
    ] = None,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster; else our own.")] = None,
    domain: Domain = None,
    stack: StackName = None,
) -> None:
    """Start everything that is not given, and serve until Ctrl-C."""
    from deploy.stack.up import up as run

    _run(
        "up",
        run,
        host=host,
        port=port,
        data=data,
        eventstore=eventstore,
        postgres=postgres,
        redis=redis,
        ray_address=ray_address,
        domain=domain,
        stack=stack,
    )


@app.command()
def controller(
    eventstore: Store = None,
    postgres: Postgres = None,
    redis: Redis = None,
    ray_address: Ray = None,
    domain: Domain = None,
    stack: StackName = None,
) -> None:
    """Own a stack on a Ray cluster: make, heal and move its parts; stand by while another does."""
    from deploy.stack.seat import Seat

    seat = Seat.of_process()
    if seat is None:
        _hold(None)
    from deploy.stack.controlling import run

    _run(
        "controller",
        lambda settings: run(seat.settled(settings), seat),
        eventstore=eventstore,
        postgres=postgres,
        redis=redis,
        ray_address=ray_address,
        domain=domain,
        stack=stack,
    )


@app.command()
def gateway(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    eventstore: Store = None,
    postgres: Postgres = None,
    redis: Redis = None,
    ray_address: Ray = None,
    domain: Domain = None,
    stack: StackName = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the stack's first controller.")
    ] = 60.0,
) -> None:
    """Serve a stack that a controller runs; one of many."""
    from deploy.stack.seat import Seat

    seat = Seat.of_process()
    if seat is None:
        from deploy.stack.settings import load

        _hold(load(host=host, port=port, data=data))
    from deploy.stack.gateway import run

    _run(
        "gateway",
        lambda settings: run(seat.settled(settings), seat, wait),
        host=host,
        port=port,
        data=data,
        eventstore=eventstore,
        postgres=postgres,
        redis=redis,
        ray_address=ray_address,
        domain=domain,
        stack=stack,
    )


@app.command()
def down(postgres: Postgres = None, ray_address: Ray = None, stack: StackName = None) -> None:
    """End all parts of a stack on a Ray cluster, and its controller; its data stay."""
    import asyncio

    from deploy.stack.down import down as end
    from deploy.stack.settings import load

    settings = load(postgres=postgres, ray_address=ray_address, stack=stack)
    _log(settings, "down")
    ended = asyncio.run(end(settings))
    for part in ended:
        say(part)
    say(f"{len(ended)} parts ended")


@app.command()
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be done; do nothing.")] = (
        False
    ),
    drop: Annotated[
        bool, typer.Option("--drop", help="Remove for good what only older code needs.")
    ] = False,
    refold: Annotated[
        list[str] | None, typer.Option(help="A category whose rows are all rebuilt from the log.")
    ] = None,
    data: Data = None,
    eventstore: Annotated[str | None, typer.Option(help="URI of the store.")] = None,
    postgres: Annotated[str | None, typer.Option(help="DSN of Postgres.")] = None,
    domain: Annotated[str | None, typer.Option(help="The package to run.")] = None,
) -> None:
    """Change the tables of states to what the code wants, while the stack serves."""
    import asyncio

    from deploy.stack.migrating import migrate as run
    from deploy.stack.settings import load

    settings = load(data=data, eventstore=eventstore, postgres=postgres, domain=domain)
    raise typer.Exit(asyncio.run(run(settings, plan=plan, drop=drop, refold=refold or [])))


@app.command()
def eventstore(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 2113,
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

    settings = load(data=data)
    _log(settings, "eventstore")
    folder = settings.data / "eventstore"
    raise typer.Exit(run(host, port, folder, system_projections, tls_certificate, tls_private_key))


def _hold(listening: Settings | None) -> NoReturn:
    """Run as the parent of the command's processes, which are started with our own arguments.

    They get a socket bound to the host and port of these settings.
    """
    from deploy.stack.listening import bound
    from deploy.stack.settings import load
    from deploy.stack.succession import hold

    _log(listening or load(), "parent")
    cli = __name__.rpartition(".")[0]
    command = ["-c", f"from {cli} import main; main()", *sys.argv[1:]]
    if listening is None:
        raise typer.Exit(hold(command))
    host, port = listening.host, listening.port
    taken = bound(host, port, open_to_all=listening.is_open, shared=True)
    data = listening.data if "data" in listening.model_fields_set else None
    raise typer.Exit(hold(command, data, taken))


def _log(settings: Settings, part: str) -> None:
    """Configure logging by the settings, in this process and in those that it starts."""
    import os

    from rayfold.runtime.log_format import FORMAT, log_to_stderr

    os.environ[FORMAT] = settings.log_format
    log_to_stderr(part=part)


def _run(name: str, role: Callable[[Settings], Coroutine[Any, Any, int]], **flags: Any) -> None:
    """Run a process of a stack, called `name` in its log; end with its exit code."""
    from deploy.stack.settings import load
    from rayfold.runtime.to_the_end import run_to_the_end

    settings = load(**flags)
    _log(settings, name)
    try:
        code = run_to_the_end(role(settings))
    except KeyboardInterrupt:  # before our own handler was installed, or after Ray's was
        code = 130
    raise typer.Exit(code)
