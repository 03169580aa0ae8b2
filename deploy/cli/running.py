"""Commands that run something: the whole stack, or the store alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.asking import Data

app = typer.Typer()


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
    stack: Annotated[
        str | None, typer.Option(help="The stack's name, and Ray's namespace; rayfold by default.")
    ] = None,
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
        stack=stack,
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
