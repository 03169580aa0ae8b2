"""How many requests a caller, and a tenant, may send: a 429 with `Retry-After` beyond that.

Each gateway counts for itself: a shared counter would cost a call for every request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.http.auth import ANONYMOUS, Caller
from api.http.problems import Problem

DEFAULT = "default"


class Rates:
    """By the name of a principal, as `100/second` or `5000/hour`; `default` is for all others.

    And by that of a tenant, for all who ask for it together.
    """

    def __init__(
        self, rates: Mapping[str, str] | None = None, of_tenants: Mapping[str, str] | None = None
    ) -> None:
        """Read the rates.

        Raises:
            ValueError: one of them cannot be read.
        """
        self._principals = _Counter(rates or {})
        self._tenants = _Counter(of_tenants or {})
        self.unbounded = not rates and not of_tenants

    def count(self, caller: Caller, address: str, tenant: str = "") -> None:
        """Count a request, for a tenant if one is named. Who shows no token is known by an address.

        Those of two tenants may have one name: each counts by itself.

        Raises:
            Problem: 429 if it is one too many.
        """
        # The tenant first: it has no slash, which stands between them, as a name may.
        who = (caller.tenant, caller.name, address if caller.name == ANONYMOUS else "")
        self._principals.count(caller.name, who)
        if tenant:
            self._tenants.count(tenant, (tenant,))


class _Counter:
    """Of requests, by a name that has a rate."""

    def __init__(self, rates: Mapping[str, str]) -> None:
        self._rates: dict[str, RateLimitItem] = {name: parse(text) for name, text in rates.items()}
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, name: str, who: tuple[str, ...]) -> None:
        """Count one of `who`, by the rate of a name."""
        rate = self._rates.get(name) or self._rates.get(DEFAULT)
        if rate is None or self._limiter.hit(rate, *who):
            return
        reset_at = self._limiter.get_window_stats(rate, *who).reset_time
        seconds = max(1, math.ceil(reset_at - time.time()))
        raise Problem(
            429,
            "rate-limited",
            f"{name} may send {rate}",
            headers={"Retry-After": str(seconds)},
        )
