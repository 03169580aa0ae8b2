"""Options and requests shared by the commands for a running stack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.errors import StartError

Data = Annotated[Path | None, typer.Option(help="The data folder; .rayfold by default.")]
Url = Annotated[
    str | None, typer.Option(help="Of a gateway elsewhere; else that of the data folder.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def ask(
    data: Path | None,
    url: str | None,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    method: str | None = None,
    tenant: str | None = None,
) -> Any:
    """Return the answer of the gateway at a URL, or else of a data folder.

    Without a `method` it is a GET, with a body a POST. `tenant` is the tenant of the request, if
    any.

    Raises:
        StartError: there is no gateway, or two, or it refuses.
    """
    if data is not None and url is not None:
        raise StartError("give --data or --url: each names a gateway")
    from deploy.cli import gateway_client
    from deploy.stack.folder import gateway_of
    from deploy.stack.settings import load

    # A folder that is given overrides the environment.
    settings = load(data=data, url=url)
    at = settings.url if url is not None or data is None else None
    gateway = at or gateway_of(settings.data)
    return gateway_client.ask(
        gateway.rstrip("/"), path, body, method=method, token=settings.own_token, tenant=tenant
    )
