"""Tokens signed by an identity provider: which are valid, and for whom."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from api.console.front import COOKIE
from api.http import signed_tokens, signing_keys
from api.http.auth import Role, Token
from api.http.limits import Limits
from api.http.signed_tokens import JwtClaims, JwtTokens
from api.http.signing_keys import SigningKeys
from rayfold import Registry
from tests.ports import free_port
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID, FollowedQueries
from tests.unit.api.problems import problem
from tests.unit.api.serving import PATIENCE, serving, soon

ISSUER, AUDIENCE = "https://id.example/", "shop"
PLACE = f"/orders/{ORDER_ID}/place"
PRIVATE = {
    "one": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "two": ec.generate_private_key(ec.SECP256R1()),
    "stranger": rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def published(name: str) -> dict[str, Any]:
    public = PRIVATE[name].public_key()
    algorithm: Any = jwt.algorithms.RSAAlgorithm if name != "two" else jwt.algorithms.ECAlgorithm
    key: dict[str, Any] = algorithm.to_jwk(public, as_dict=True)
    return {**key, "kid": name, "use": "sig"}


class Provider(httpx.AsyncBaseTransport):
    """An identity provider: publishes keys, or is away."""

    def __init__(self) -> None:
        self.keys = [published("one")]
        self.answer: httpx.Response | None = None
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return self.answer or httpx.Response(200, json={"keys": self.keys})


def signed(key: str = "one", *, kid: str | None = None, **changes: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 300,
        "sub": "ada",
        "roles": ["writer"],
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    algorithm = "ES256" if key == "two" else "RS256"
    return jwt.encode(claims, PRIVATE[key], algorithm, headers={"kid": kid or key})


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def provider() -> Provider:
    return Provider()


def gateway_of(registry: Registry, provider: Provider, **claims: Any) -> Gateway:
    keys = SigningKeys("https://id.example/keys", provider)
    signed_tokens = JwtTokens(JwtClaims(ISSUER, AUDIENCE, **claims), keys)
    return Gateway(registry, options={"signed": signed_tokens})


@pytest.fixture
async def guarded(registry: Registry, provider: Provider) -> AsyncIterator[Gateway]:
    made = gateway_of(registry, provider)
    async with made.http:
        yield made


async def test_a_signed_token_makes_its_subject_the_principal(
    guarded: Gateway, provider: Provider
) -> None:
    for _ in range(3):
        assert (await guarded.http.post(PLACE, headers=bearer(signed()))).status_code == 202
    assert guarded.commands.sent[0].principal == "ada"
    assert provider.asked == 1
    problem(await guarded.http.get("/operators/status", headers=bearer(signed())), 403, "forbidden")
    problem(await guarded.http.post(PLACE), 401, "unauthorized")


def unsigned() -> str:
    return jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 300, "sub": "ada", "roles": "writer"},
        None,
        "none",
        headers={"kid": "one"},
    )


def signed_with_the_public_key() -> str:
    """An old trick: the public key, as if it were a secret that both sides know."""
    pem = (
        PRIVATE["one"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    head = {"alg": "HS256", "typ": "JWT", "kid": "one"}
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 300, "sub": "ada"}
    text = b".".join(_part(json.dumps(each).encode()) for each in (head, claims))
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return (text + b"." + _part(hmac.sign(text, pem))).decode()


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def changed_afterwards() -> str:
    head, _, signature = signed().split(".")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 300, "sub": "eve"}
    claims["roles"] = ["operator"]
    return ".".join((head, _part(json.dumps(claims).encode()).decode(), signature))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed(exp=int(time.time()) - 60), id="ended"),
        pytest.param(signed(nbf=int(time.time()) + 600), id="not-yet"),
        pytest.param(signed(exp=None), id="without-end"),
        pytest.param(signed(aud="another"), id="for-others"),
        pytest.param(signed(aud=None), id="for-nobody"),
        pytest.param(signed(iss="https://evil.example/"), id="by-others"),
        pytest.param(signed("stranger", kid="one"), id="wrong-signature"),
        pytest.param(signed(roles=["admin"]), id="no-role-of-ours"),
        pytest.param(signed(roles={"writer": True}), id="roles-of-no-list"),
        pytest.param(signed(sub=None), id="of-nobody"),
        pytest.param(signed(sub="process:fulfilment"), id="one-of-our-own-names"),
        pytest.param(signed(sub="anonymous"), id="whoever-shows-none"),
        pytest.param(signed(sub="ada\nbob"), id="two-lines"),
        pytest.param(signed(sub="a" * 257), id="endless-name"),
        pytest.param(unsigned(), id="alg-none"),
        pytest.param(signed_with_the_public_key(), id="public-key-as-secret"),
        pytest.param(changed_afterwards(), id="changed"),
        pytest.param("e30.e30.", id="empty"),
        pytest.param(f"{_part(b'[' * 5000).decode()}.e30.", id="nested-without-end"),
        pytest.param("ÿ.ÿ.ÿ", id="no-text"),
    ],
)
async def test_an_invalid_token_is_refused_as_a_missing_one(guarded: Gateway, token: str) -> None:
    headers = {"authorization": f"Bearer {token}".encode("latin-1")}
    problem(await guarded.http.post(PLACE, headers=headers), 401, "unauthorized")
    assert not guarded.commands.sent
    kept = {"cookie": f"{COOKIE}={quote(token)}"}
    assert (await guarded.http.get("/console", headers=kept)).status_code == 401
    form = {"token": token}
    assert (await guarded.http.post("/console/sign-in", data=form)).status_code in (401, 422)


async def test_an_operator_signs_in_to_the_console_with_a_signed_token_until_it_expires(
    guarded: Gateway,
) -> None:
    operator = signed(sub="olga", roles=["operator"])
    entered = await guarded.http.post("/console/sign-in", data={"token": operator})
    assert entered.status_code == 303
    page = await guarded.http.get("/console")
    assert page.status_code == 200
    assert "olga" in page.text
    writer = await guarded.http.post("/console/sign-in", data={"token": signed()})
    assert writer.status_code == 403


async def test_a_key_that_is_new_is_fetched(
    guarded: Gateway, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "PAUSE", 0.0)
    assert (await guarded.http.post(PLACE, headers=bearer(signed()))).status_code == 202
    provider.keys = [published("two")]
    assert (await guarded.http.post(PLACE, headers=bearer(signed("two")))).status_code == 202
    # The one before was withdrawn; whoever had shown it a moment ago is remembered for a while.
    fresh = signed(sub="bob")
    problem(await guarded.http.post(PLACE, headers=bearer(fresh)), 401, "unauthorized")


async def test_unknown_keys_are_not_fetched_again_and_again(
    guarded: Gateway, provider: Provider
) -> None:
    for number in range(20):
        token = signed("stranger", kid=f"unknown-{number}")
        problem(await guarded.http.post(PLACE, headers=bearer(token)), 401, "unauthorized")
    assert provider.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503),
        httpx.Response(302, headers={"location": "http://169.254.169.254/"}),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b" " * 300_000),
        httpx.Response(200, json={"keys": []}),
        httpx.Response(200, json={"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}]}),
    ],
)
async def test_without_any_keys_a_token_cannot_be_checked(
    guarded: Gateway, provider: Provider, answer: httpx.Response
) -> None:
    provider.answer = answer
    reply = await guarded.http.post(PLACE, headers=bearer(signed()))
    problem(reply, 503, "keys-unavailable")
    assert reply.headers["retry-after"]


async def test_known_keys_are_kept_while_the_provider_is_away(
    guarded: Gateway, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await guarded.http.post(PLACE, headers=bearer(signed()))).status_code == 202
    monkeypatch.setattr(signing_keys, "REFRESH", 0.0)
    monkeypatch.setattr(signing_keys, "PAUSE", 0.0)
    provider.answer = httpx.Response(500)
    reply = await guarded.http.post(PLACE, headers=bearer(signed(sub="bob")))
    assert reply.status_code == 202
    assert provider.asked == 2


async def test_a_revoked_key_is_accepted_no_longer_than_keys_are_kept(
    guarded: Gateway, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, ahead = 0.0, 3600.0  # and set right again
    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() + passed, time=lambda: time.time() + passed + ahead
    )
    for module in (signing_keys, signed_tokens):
        monkeypatch.setattr(module, "time", clock)
    early, late = (bearer(signed(sub=name, exp=time.time() + 9000)) for name in ("ada", "bob"))
    assert (await guarded.http.post(PLACE, headers=early)).status_code == 202
    ahead = 0.0
    provider.keys = [published("two")]
    passed = signing_keys.REFRESH - 60
    assert (await guarded.http.post(PLACE, headers=late)).status_code == 202
    assert provider.asked == 1
    passed = signing_keys.REFRESH + 1
    problem(await guarded.http.post(PLACE, headers=late), 401, "unauthorized")
    problem(await guarded.http.post(PLACE, headers=early), 401, "unauthorized")


async def test_a_remembered_long_token_takes_no_more_memory_than_a_short_one(
    guarded: Gateway, provider: Provider
) -> None:
    tokens = JwtTokens(
        JwtClaims(ISSUER, AUDIENCE), SigningKeys("https://id.example/keys", provider)
    )
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10):
            token = signed(sub=f"ada-{number}", note="x" * 20_000).encode()
            assert await tokens.caller(token) is not None
            del token
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


async def test_a_token_may_expire_at_any_distant_time(guarded: Gateway) -> None:
    reply = await guarded.http.post(PLACE, headers=bearer(signed(exp=10**400)))
    assert reply.status_code == 202


async def test_a_stream_ends_when_its_token_expires(
    registry: Registry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "REFRESH", 0.0)
    monkeypatch.setattr(signing_keys, "PAUSE", 0.0)
    keys = SigningKeys("https://id.example/keys", provider)
    signed_by = JwtTokens(JwtClaims(ISSUER, AUDIENCE), keys)
    limits = Limits(token_checked=0.02)
    made = Gateway(
        registry, queries=FollowedQueries(), options={"signed": signed_by, "limits": limits}
    )
    port = free_port()
    async with serving(made, port, limits):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET /orders/{ORDER_ID}/live HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(f"{request}Authorization: Bearer {signed()}\r\n\r\n".encode())
        await soon(reader.readuntil(b"\ndata: "))
        async with asyncio.timeout(PATIENCE):
            while provider.asked < 4:  # noqa: ASYNC110 it was looked at again, and counts
                await asyncio.sleep(0.01)
        assert not reader.at_eof()
        provider.keys = [published("two")]
        assert (await soon(reader.readuntil(b"\r\n0\r\n\r\n"))).endswith(b"0\r\n\r\n")
        writer.close()


async def test_claims_may_have_the_names_of_the_provider(
    registry: Registry, provider: Provider
) -> None:
    made = gateway_of(
        registry,
        provider,
        principal="email",
        role="realm_access.roles",
        permission="scope",
        roles={"shop-staff": Role.READER, "shop-admin": Role.OPERATOR},
    )
    token = signed(
        email="ada@example.org",
        realm_access={"roles": ["shop-staff", "shop-admin", 7]},
        scope="a b",
    )
    async with made.http as http:
        assert (await http.post(PLACE, headers=bearer(token))).status_code == 202
        assert (await http.get("/operators/status", headers=bearer(token))).status_code == 200
    assert made.commands.sent[0].principal == "ada@example.org"


async def test_tokens_of_both_kinds_are_accepted(registry: Registry, provider: Provider) -> None:
    keys = SigningKeys("https://id.example/keys", provider)
    both = {
        "signed": JwtTokens(JwtClaims(ISSUER, AUDIENCE), keys),
        "tokens": [Token("shop", "s3cret", Role.WRITER)],
    }
    made = Gateway(registry, options=both)
    provider.answer = httpx.Response(500)  # our own do not need it
    async with made.http as http:
        assert (await http.post(PLACE, headers=bearer("s3cret"))).status_code == 202
        problem(await http.post(PLACE, headers=bearer("nonsense")), 401, "unauthorized")


@pytest.mark.parametrize(
    ("said", "status", "stream"),
    [
        ("acme", 202, f"order-acme:{ORDER_ID}"),
        (["acme"], 202, f"order-acme:{ORDER_ID}"),
        (None, 403, ""),
        ("", 401, ""),
        ("*", 401, ""),
        ("Acme", 401, ""),
        ("acme globex", 401, ""),
        (["acme", "globex"], 401, ""),
        ([], 401, ""),
        ([7], 401, ""),
        (7, 401, ""),
        ({"name": "acme"}, 401, ""),
    ],
)
async def test_a_token_must_have_the_claim_of_the_tenant(
    provider: Provider, said: Any, status: int, stream: str
) -> None:
    made = gateway_of(Registry.load("domain", tenants=True), provider, tenant="org")
    async with made.http:
        reply = await made.http.post(PLACE, headers=bearer(signed(org=said)))
        assert reply.status_code == status, reply.text
        assert [each.stream for each in made.commands.sent] == ([stream] if stream else [])


async def test_an_operator_of_a_tenant_is_not_an_operator_of_the_stack(provider: Provider) -> None:
    made = gateway_of(Registry.load("domain", tenants=True), provider, tenant="org")
    async with made.http:
        of_all, of_one = signed(roles=["operator"]), signed(roles=["operator"], org="acme")
        told = await made.http.get("/operators/status", headers=bearer(of_all))
        assert told.status_code == 200
        problem(await made.http.get("/operators/status", headers=bearer(of_one)), 403, "forbidden")
        other = {**bearer(of_one), "rayfold-tenant": "globex"}
        problem(await made.http.post(PLACE, headers=other), 403, "other-tenant")
