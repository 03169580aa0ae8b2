"""Unused settings are reported: a misspelled name, or remains of an older release."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from api.http.rates import ANONYMOUS, DEFAULT
from deploy.cli.command_line import app
from deploy.stack.settings import load
from deploy.stack.unused import unused
from deploy.stack.up import load_registry
from rayfold import Command, CommandContext, Middleware, ProceedCommand, Registry

DOMAIN = "tests.unit.api.guarded"
TOKEN = {"token": "a" * 16, "role": "writer"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stores": {"casandra": "x://y"}}, ["setting stores.casandra: no view of the domain"]),
        ({"stores": {"postgres": "postgresql://db/shop"}}, []),
        ({"rates": {"wbe": "5/second"}}, ["setting rates.wbe: no token has that name"]),
        ({"rates": {DEFAULT: "5/second", ANONYMOUS: "1/second"}}, []),
        ({"tenant_rates": {"acme": "5/second"}}, ["setting tenant_rates: this stack serves no"]),
        ({"tenant_rates": {"acme": "5/second"}, "tenants": True}, []),
        ({"rates": {"web": "9/second"}, "tokens": {"web": TOKEN}}, []),
        (
            {
                "rates": {"whoever": "5/second"},
                "jwt": {"issuer": "i", "audience": "a", "jwks": "https://idp/keys"},
            },
            [],
        ),
        (
            {"tokens": {"web": {**TOKEN, "permissions": ["refunds:grant", "refunds:garnt"]}}},
            ["setting tokens.web.permissions: nothing of the domain needs 'refunds:garnt'"],
        ),
    ],
)
def test_an_unused_name_is_reported(given: dict[str, object], told: list[str]) -> None:
    found = list(unused(load(**given), Registry.load(DOMAIN)))
    assert len(found) == len(told)
    for sentence, beginning in zip(found, told, strict=True):
        assert sentence.startswith(beginning)


def test_a_permission_that_middleware_may_check_is_not_reported() -> None:
    class Asking(Middleware, name="asking"):
        async def command(
            self, command: Command, context: CommandContext, proceed: ProceedCommand
        ) -> Any:
            return await proceed(command)

    with_middleware = ModuleType("with_middleware")
    with_middleware.Asking = Asking  # type: ignore[attr-defined]
    Asking.__module__ = "with_middleware"
    settings = load(tokens={"web": {**TOKEN, "permissions": ["asked:within"]}})
    assert not list(unused(settings, Registry([import_module(DOMAIN), with_middleware])))


def test_the_check_and_each_start_report_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAYFOLD_STORES", '{"casandra": "x://y"}')
    said = "setting stores.casandra: no view of the domain is kept there"
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0
    assert said in result.output
    with caplog.at_level(logging.WARNING):
        load_registry(load())
    assert said in caplog.text


def test_a_variable_with_a_misspelled_name_is_reported() -> None:
    variables = {
        "RAYFOLD_WRITE_HOST",
        "rayfold_tennants",
        # What there is, and what Kubernetes makes of a service's name.
        *("RAYFOLD_PORT", "rayfold_host", "RAYFOLD_TRACEBACK", "RAYFOLD_RPC_PORTS"),
        *("RAYFOLD_SERVICE_HOST", "RAYFOLD_SERVICE_PORT", "RAYFOLD_PORT_8000_TCP_ADDR"),
        *("WRITE_HOST", "XRAYFOLD_WRITE_HOST"),
    }
    assert list(unused(load(), Registry.load(DOMAIN), variables)) == [
        "variable RAYFOLD_WRITE_HOST: is it RAYFOLD_WRITE_HOSTS?",
        "variable rayfold_tennants: is it RAYFOLD_TENANTS?",
    ]
