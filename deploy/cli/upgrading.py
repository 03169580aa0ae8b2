"""The command that changes code and domain of a stack that runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.saying import say
from deploy.errors import StartError

app = typer.Typer()


@app.command()
def upgrade(
    domain: Annotated[str | None, typer.Option(help="The package to run from now on.")] = None,
    runtime_env: Annotated[
        str | None, typer.Option(help="Ray's runtime_env, as JSON, if it brings the domain.")
    ] = None,
    eventstore: Annotated[str | None, typer.Option(help="URI of the stack's store.")] = None,
    postgres: Annotated[str | None, typer.Option(help="DSN of the stack's database.")] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Not used; accepted so that all commands take the same options."),
    ] = None,
    stack: Annotated[str | None, typer.Option(help="The stack's name.")] = None,
    accept_parked: Annotated[
        bool, typer.Option("--accept-parked", help="Also if keys that serve would be parked.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the whole stack runs it.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 600.0,
    data: Annotated[
        Path | None,
        typer.Option(help="Not used; accepted so that all commands take the same options."),
    ] = None,
) -> None:
    """Change code and domain of a stack that runs, without a failed request."""
    from deploy.stack.settings import load
    from deploy.stack.upgrade import upgrade as run

    try:
        environment = None if runtime_env is None else dict(json.loads(runtime_env))
    except (ValueError, TypeError) as error:
        raise StartError(f"--runtime-env is not a JSON object: {error}") from error
    settings = load(
        domain=domain,
        runtime_env=environment,
        eventstore=eventstore,
        postgres=postgres,
        ray_address=ray_address,
        stack=stack,
    )
    asyncio.run(run(settings, say, accept_parked=accept_parked, wait=wait, timeout=timeout))
