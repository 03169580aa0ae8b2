"""Settings that decide who may call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import StartError
from deploy.stack.access import admission_of
from deploy.stack.roles import check
from deploy.stack.settings import load
from deploy.stack.up import up


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a working folder without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYFOLD_TOKENS", raising=False)
    monkeypatch.delenv("RAYFOLD_TOKEN", raising=False)
    umask = os.umask(0o022)
    yield tmp_path
    os.umask(umask)  # `up` has changed it


FILE = """
hosts = ["shop.example"]

[tokens.shop]
token = "0123456789abcdef-w"
role = "writer"

[tokens.ops]
token = "0123456789abcdef-o"
role = "operator"
"""


def test_tokens_come_from_the_file(folder: Path) -> None:
    (folder / "rayfold.toml").write_text(FILE)
    settings = load()
    assert {name: each.role for name, each in settings.tokens.items()} == {
        "shop": "writer",
        "ops": "operator",
    }
    assert settings.hosts == ["shop.example"]
    assert settings.own_token == "0123456789abcdef-o"
    assert "0123456789" not in repr(settings)


def test_tokens_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFOLD_TOKENS", '{"a": {"token": "0123456789abcdef", "role": "reader"}}')
    settings = load()
    assert settings.tokens["a"].role == "reader"
    assert settings.own_token is None
    monkeypatch.setenv("RAYFOLD_TOKEN", "given-to-the-command-line")
    assert load().own_token == "given-to-the-command-line"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            '{"a": {"token": "short", "role": "reader"}}',
            "tokens.a.token: a token has at least 16 characters",
        ),
        ('{"a": {"token": "0123456789abcdef", "role": "king"}}', "tokens.a.role"),
        ('{"a": "0123456789abcdef"}', "tokens.a"),
        ('{"a\\nb": {"token": "0123456789abcdef", "role": "reader"}}', "tokens"),
        ('{"": {"token": "0123456789abcdef", "role": "reader"}}', "tokens"),
        (
            '{"a": {"token": "0123456789abcdef", "role": "reader"},'
            ' "b": {"token": "0123456789abcdef", "role": "operator"}}',
            "'a' and 'b' have the same token",
        ),
        ("0123456789abcdef", "tokens"),
    ],
)
def test_an_invalid_token_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, given: str, named: str
) -> None:
    monkeypatch.setenv("RAYFOLD_TOKENS", given)
    with pytest.raises(StartError) as error:
        load()
    assert named in str(error.value)
    assert "0123456789" not in str(error.value)


@pytest.mark.parametrize("sign", ["/", "?", "#"])
@pytest.mark.parametrize(
    ("name", "before"),
    [("postgres", "postgresql://"), ("redis", "redis://"), ("eventstore", "kdb://")],
)
def test_an_unescaped_password_is_reported_and_not_shown(name: str, before: str, sign: str) -> None:
    with pytest.raises(StartError) as error:
        load(**{name: f"{before}me:s3{sign}cret@here:1"})
    assert f"setting {name}: not a valid URL: in a password write %2F" in str(error.value)
    assert "s3" not in str(error.value)
    for hosts in ("here:1,there", "[::1]:2"):
        address = f"{before}{hosts}?by=me@home"
        assert getattr(load(**{name: address}), name) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"port = ", r"rayfold\.toml cannot be read: Invalid value"),
        (b"# \xff", "cannot be read"),
        (b"tenant = true", r"there is no setting tenant: is it tenants\?"),
        (b"colour = 1", "there is no setting colour$"),
        (b"port = 0", "setting port: Input should be"),
    ],
)
def test_an_invalid_file_is_reported_in_one_sentence(folder: Path, text: bytes, told: str) -> None:
    (folder / "rayfold.toml").write_bytes(text)
    with pytest.raises(StartError, match=told):
        load()


def test_a_deeply_nested_variable_is_reported_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAYFOLD_TOKENS", "[" * 100_000)
    with pytest.raises(StartError, match="cannot be read"):
        load()


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("data", ""),
        ("snapshots", ""),
        ("eventstore", ""),
        ("postgres", ""),
        ("postgres_reads", '[""]'),
        ("ray_address", ""),
        ("autoscale", '{"memory": [4, 1]}'),
        ("claims", '{"write": {"CPU": 1e400}}'),
        ("claims", '{"write": {"CPU": 1e300}}'),
    ],
)
def test_an_impossible_setting_is_named_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str
) -> None:
    monkeypatch.setenv(f"RAYFOLD_{variable.upper()}", given)
    with pytest.raises(StartError, match=f"setting {variable}"):
        load()


def test_a_tilde_in_a_folder_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    (folder / "rayfold.toml").write_text('data = "~/shop"\n')
    monkeypatch.setenv("RAYFOLD_SNAPSHOTS", "~")
    assert (load().data, load().snapshots) == (Path("/home/ada/shop"), Path("/home/ada"))


def test_a_folder_made_by_an_earlier_version_is_not_replaced_by_an_empty_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    (folder / "~" / "shop").mkdir(parents=True)
    (folder / "rayfold.toml").write_text('data = "~/shop"\n')
    with pytest.raises(StartError, match=r"setting data: \./~/shop exists.* /home/ada/shop"):
        load()
    assert load(data="./~/shop").data == Path("~/shop")


def test_a_file_that_is_not_text_is_named(folder: Path) -> None:
    (folder / "rayfold.toml").write_bytes(b'data = "\xff"\n')
    with pytest.raises(StartError, match=r"rayfold\.toml cannot be read"):
        load()


async def test_an_invalid_range_of_ports_prevents_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAYFOLD_RPC_PORTS", "5-1")
    with pytest.raises(StartError, match="RAYFOLD_RPC_PORTS"):
        await up(load())
    given = load(ray_address="auto", eventstore="kdb://a", postgres="postgresql://a")
    with pytest.raises(StartError, match="RAYFOLD_RPC_PORTS"):
        check(given, "controller")


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ('tenant = "acme"', "the stack serves none"),
        ('tenant = "*"', "the stack serves none"),
        ('tenant = "Acme"', "tokens.shop.tenant"),
        ('tenant = "a:b"', "tokens.shop.tenant"),
        ('tenant = ""', "tokens.shop.tenant"),
    ],
)
def test_a_tenant_without_tenants_switched_on_is_refused(
    folder: Path, lines: str, mistake: str
) -> None:
    shop = f'[tokens.shop]\ntoken = "0123456789abcdef-w"\nrole = "writer"\n{lines}\n'
    (folder / "rayfold.toml").write_text(shop)
    with pytest.raises(StartError, match=mistake):
        load()


def test_a_token_must_have_a_tenant_if_the_stack_serves_tenants(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load().tenants is False
    monkeypatch.setenv("RAYFOLD_TENANTS", "true")
    (folder / "rayfold.toml").write_text(
        '[tokens.shop]\ntoken = "0123456789abcdef-w"\nrole = "writer"\ntenant = "acme"\n'
    )
    assert admission_of(load()).tokens[0].tenant == "acme"
    (folder / "rayfold.toml").write_text(
        '[tokens.ops]\ntoken = "0123456789abcdef-w"\nrole = "operator"\ntenant = "acme"\n'
    )
    with pytest.raises(StartError, match="operator's, so it cannot have a tenant"):
        load()


def test_a_claim_for_the_tenant_is_refused_unless_the_stack_serves_tenants(folder: Path) -> None:
    jwt = '[jwt]\nissuer = "i"\naudience = "a"\njwks = "https://i/k"\ntenant_claim = "org"\n'
    (folder / "rayfold.toml").write_text(jwt)
    with pytest.raises(StartError, match="the stack serves none"):
        load()
    (folder / "rayfold.toml").write_text(f"tenants = true\n{jwt}")
    assert admission_of(load()).signed is not None


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("postgres", "postgresql://ada:secret@[::1/shop"),
        ("postgres_reads", ["postgresql://ada:secret@[::1/shop"]),
        ("eventstore", "kdb://ada:secret@[::1"),
        ("redis", "redis://:secret@[::1"),
    ],
)
def test_an_unparsable_address_is_reported_without_its_password(name: str, given: Any) -> None:
    with pytest.raises(StartError, match=f"setting {name}.*: not a valid URL") as refused:
        load(**{name: given})
    assert "secret" not in str(refused.value)


def test_a_settings_path_that_is_not_a_file_is_not_ignored(folder: Path) -> None:
    """Without its settings another stack would start, for example one without tokens."""
    file = folder / "rayfold.toml"
    file.symlink_to("gone.toml")
    with pytest.raises(StartError, match=r"rayfold\.toml is a link to a file that does not exist"):
        load()
    file.unlink()
    file.write_text('data = "a\\u0000b"')
    with pytest.raises(StartError, match="setting data: is not the name of a folder"):
        load()
    file.unlink()
    file.mkdir()
    with pytest.raises(StartError, match=r"rayfold\.toml is a folder"):
        load()
