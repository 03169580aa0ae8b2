"""What the commands have in common that ask a running stack: their options and their way to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path | None, typer.Option(help="The data folder; .rayfold by default.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def ask(data: Path | None, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the answer of the gateway of a data folder; without a body it is a GET.

    Raises:
        StartError: no gateway, or one that says no.
    """
    from deploy.cli import gateway_client
    from deploy.stack.settings import load

    settings = load(data=data)
    return gateway_client.ask(settings.data, path, body, token=settings.own_token)
