"""Commands for authors of a domain: create a package, and run a stack that follows its changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.asking import Data
from deploy.cli.running import Domain, Host, Port, Postgres, Ray, Redis, StackName, Store
from deploy.cli.saying import say

app = typer.Typer()


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The package's name, as Python imports it.")],
) -> None:
    """Write a domain to begin with into the working folder: a package with its tests."""
    from deploy.authoring.new import write
    from deploy.stack.settings import load

    load()  # errors in the settings are reported before anything is written
    for path in write(name, Path.cwd()):
        say(f"wrote {path}")
    settings = load()
    domain = "" if settings.domain == name else f" --domain {name}"
    say("", "Go on with")
    say(f"  python -m pytest {Path('tests', f'test_{name}.py')}")
    say(f"  rayfold dev{domain}")
    body = """'{"account_id": "a1", "owner": "ada"}'"""
    say(f"  curl -s localhost:{settings.port}/accounts -d {body}")


@app.command()
def dev(
    host: Host = None,
    port: Port = None,
    data: Data = None,
    eventstore: Store = None,
    postgres: Postgres = None,
    redis: Redis = None,
    ray_address: Ray = None,
    domain: Domain = None,
    stack: StackName = None,
) -> None:
    """Do as `up`, and start again whenever the domain's code or rayfold.toml changes."""
    import asyncio

    from deploy.authoring.development.dev import dev as run

    given = {
        "host": host,
        "port": port,
        "data": None if data is None else str(data),
        "eventstore": eventstore,
        "postgres": postgres,
        "redis": redis,
        "ray_address": ray_address,
        "domain": domain,
        "stack": stack,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    cli = __name__.rpartition(".")[0]
    up = ["-c", f"from {cli} import main; main()", "up", *options]
    raise typer.Exit(asyncio.run(run(flags, up)))
