"""The reference names everything that there is, and nothing that there is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args

import typer.main
from pydantic import BaseModel

from actors.host.snapshots import PREFIX as SNAPSHOTS
from actors.schedules.records import ACCEPTED, CANCELLED, DUE, REFUSED, SCHEDULED
from actors.schedules.records import PREFIX as SCHEDULES
from api.http.headers import _SINGLE
from api.openapi.document import openapi
from api.operators.metrics import _GAUGES, Metrics
from deploy.cli.command_line import app
from deploy.copying.own_records import _MOVERS, NOT_COPIED
from deploy.stack.settings import Settings
from rayfold import Registry
from tests.documents import ROOT

REFERENCE = ROOT / "docs" / "reference"

_OPTION = r"--[a-z][a-z-]*"


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Yield the commands of the command line with their names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


def test_every_command_is_in_the_reference_with_its_options() -> None:
    known = dict(commands(typer.main.get_command(app)))
    real = {name: options_of(each) for name, each in known.items()}
    assert options_told((REFERENCE / "command-line.md").read_text(), set(known)) == real


def options_of(command: Any) -> set[str]:
    """Return the options of a command that begin with two dashes."""
    options = {each for param in command.params for each in (*param.opts, *param.secondary_opts)}
    return {each for each in options if each.startswith("--")}


def options_told(page: str, known: set[str]) -> dict[str, set[str]]:
    """Return the commands of the page, each with the options that it is told to have."""
    told: dict[str, set[str]] = {}
    for name, usage in re.findall(r"^\| `rayfold ([a-z]+(?: [a-z]+)?)([^`]*)`", page, re.MULTILINE):
        told[name] = set(re.findall(_OPTION, usage))
    for options, of in re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", page, re.MULTILINE):
        named = set(re.findall(r"`([a-z ]+)`", of))
        for name in known - named if of.startswith("all but") else named:
            told[name] |= set(re.findall(_OPTION, options))
    return told


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


def test_every_problem_of_the_gateway_is_in_the_reference_with_its_status() -> None:
    page = (REFERENCE / "http.md").read_text()
    table = page.partition("\n## Statuses\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:[0-9]{3}\b).*)$", table, re.MULTILINE)
    known = set(problems())
    assert {
        (status, kind)
        for status, kind in known
        if not any(str(status) in row and f"`{kind}`" in row for row in rows)
    } == set()
    kinds = {kind for _, kind in known} | {"not-found", "method-not-allowed"}
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table)) - kinds == set()


def problems() -> Iterator[tuple[int, str]]:
    """Yield the status and the kind of every problem that the sources of the gateway name."""
    for file in (ROOT / "api").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                match node.func.id, node.args:
                    case "Problem", [ast.Constant(int(status)), ast.Constant(str(kind)), *_]:
                        if status != 501:  # of a gateway that keeps no schedules: those of tests
                            yield status, kind
                    case "unavailable" | "_down", [ast.Constant(str(kind)), *_]:
                        yield 503, kind


def test_every_metric_is_in_the_reference() -> None:
    metrics = Metrics()
    metrics.accepted("place-order")
    metrics.asked("get-order")
    metrics.replied("GET", "/orders/{order_id}", 200, 0.1)
    part = {"part": "write#0", "node": "one", **dict.fromkeys(_GAUGES, 1)}
    text = metrics.text([part], [{"view": "orders", "state": "failed"}])
    page = (REFERENCE / "http.md").read_text()
    told = re.findall(r"`(rayfold_[a-z_]+)[`{]", page)
    assert set(told) == set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_every_group_of_settings_is_in_the_reference() -> None:
    page = (REFERENCE / "settings.md").read_text()
    told = set(re.findall(r"^::: (\S+)", page, re.MULTILINE))
    assert told == {f"{each.__module__}.{each.__qualname__}" for each in groups(Settings)}


def groups(settings: type[BaseModel]) -> set[type[BaseModel]]:
    """Return a model of settings with those in its fields."""
    found = {settings}
    for field in settings.model_fields.values():
        for each in parts(field.annotation):
            if isinstance(each, type) and issubclass(each, BaseModel):
                found |= groups(each)
    return found


def parts(annotation: Any) -> Iterator[Any]:
    """Yield a type and what it is made of."""
    yield annotation
    for each in get_args(annotation):
        yield from parts(each)


def test_every_stream_of_our_own_is_in_the_reference_with_its_records() -> None:
    page = (REFERENCE / "log.md").read_text()
    streams = {*_MOVERS, *NOT_COPIED, SCHEDULES, SNAPSHOTS}
    assert streams - set(re.findall(r"^\| `([a-z-]+)", page, re.MULTILINE)) == set()
    records = {each for _, types in _MOVERS.values() for each in types}
    records |= {SCHEDULED, DUE, CANCELLED, ACCEPTED, REFUSED}
    assert records - set(re.findall(r"`([A-Za-z]+)`", page)) == set()
