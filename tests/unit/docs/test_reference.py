"""The reference names everything that there is, and nothing that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from api.http.headers import _SINGLE
from api.openapi.document import openapi
from deploy.cli.command_line import app
from rayfold import Registry
from tests.documents import ROOT

REFERENCE = ROOT / "docs" / "reference"


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Yield the commands of the command line with their names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


def test_every_command_and_option_is_in_the_reference() -> None:
    page = (REFERENCE / "command-line.md").read_text()
    known = dict(commands(typer.main.get_command(app)))
    told = set(re.findall(r"^\| `rayfold ([a-z]+(?: [a-z]+)?)", page, re.MULTILINE))
    assert told == set(known)
    params = [param for each in known.values() for param in each.params]
    options = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    flags = {option for option in options if option.startswith("--")}
    assert set(re.findall(r"--[a-z][a-z-]*", page)) - {"--help", "--version"} == flags


def test_every_path_of_the_gateway_is_in_the_reference() -> None:
    page = (REFERENCE / "http.md").read_text()
    told = set(re.findall(r"^\| `(?:GET|POST) (/[^`]*)`", page, re.MULTILINE))
    ours = (
        "/commands",
        "/queries",
        "/health",
        "/metrics",
        "/operators",
        "/processes",
        "/publications",
    )
    described = {
        path for path in openapi(Registry.load("domain"))["paths"] if path.startswith(ours)
    }
    generic = {re.sub(r"^/(commands|queries)/[a-z-]+$", r"/\1/{name}", path) for path in described}
    assert told - {"/schema", "/docs", "/console"} == generic


def test_every_header_that_the_gateway_reads_is_in_the_reference() -> None:
    page = (REFERENCE / "http.md").read_text().lower()
    of_http = {b"content-length", b"content-type", b"host", b"origin", b"sec-fetch-site"}
    assert {name for name in _SINGLE - of_http if f"`{name.decode()}" not in page} == set()
