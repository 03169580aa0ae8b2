"""How many requests a caller may send: a 429 with `Retry-After` beyond that.

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
    """By the name of a principal, as `100/second` or `5000/hour`; `default` is for all others."""

    def __init__(self, rates: Mapping[str, str] | None = None) -> None:
        """Read the rates.

        Raises:
            ValueError: one of them cannot be read.
        """
        self._rates: dict[str, RateLimitItem] = {}
        for name, text in (rates or {}).items():
            self._rates[name] = parse(text)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self.unbounded = not self._rates

    def count(self, caller: Caller, address: str) -> None:
        """Count a request. Whoever shows no token is known by an address.

        Those of two tenants may have one name: each counts by itself.

        Raises:
            Problem: 429 if it is one too many.
        """
        principal = caller.name
        rate = self._rates.get(principal) or self._rates.get(DEFAULT)
        if rate is None:
            return
        # The tenant first: it has no slash, which stands between them, as a name may.
        who = (caller.tenant, principal, address if principal == ANONYMOUS else "")
        if self._limiter.hit(rate, *who):
            return
        reset_at = self._limiter.get_window_stats(rate, *who).reset_time
        seconds = max(1, math.ceil(reset_at - time.time()))
        raise Problem(
            429,
            "rate-limited",
            f"{principal} may send {rate}",
            headers={"Retry-After": str(seconds)},
        )
