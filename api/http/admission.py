"""Which callers a gateway admits, from where, and how often."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from api.http.auth import SignedTokens, Token
from api.http.rates import Rates


@dataclass(frozen=True, kw_only=True)
class Admission:
    """With neither `tokens` nor `signed` tokens everybody may call, but operators only from this
    machine. `hosts` are the names under which browsers reach the gateway, besides loopback names
    and addresses."""

    tokens: Sequence[Token] = ()
    signed: SignedTokens | None = None
    rates: Rates = field(default_factory=Rates)
    hosts: Collection[str] = ()
