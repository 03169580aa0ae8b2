"""Rate limits for a caller and for a tenant: beyond them, a 429 with `Retry-After`.

Each gateway counts for itself: a shared counter would cost a call for every request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from limits import RateLimitItem, parse

from api.http.auth import ANONYMOUS, Caller
from api.http.problems import Problem

DEFAULT = "default"


class Rates:
    """The rates by the name of a principal, as `100/second` or `5000/hour`; `default` is for all
    others. Also the rates by tenant, each for all callers of the tenant together.
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
        """Count a request, for a tenant if one is given. Without a token, `address` is the caller.

        Callers of different tenants may have the same name: they are counted separately.

        Raises:
            Problem: 429 if it is one too many.
        """
        # The tenant comes first: parts are joined by a slash, which a name may have but no tenant.
        who = (caller.tenant, caller.name, address if caller.name == ANONYMOUS else "")
        self._principals.count(caller.name, who)
        if tenant:
            self._tenants.count(tenant, (tenant,))


class _Counter:
    """Counts requests by a name that has a rate."""

    def __init__(self, rates: Mapping[str, str]) -> None:
        now = time.monotonic()
        self._windows = {name: Window(parse(text), now) for name, text in rates.items()}

    def count(self, name: str, who: tuple[str, ...]) -> None:
        """Count a request of `who`, by the rate of `name`."""
        window = self._windows.get(name) or self._windows.get(DEFAULT)
        if window is None or (seconds := window.count(who, time.monotonic())) is None:
            return
        raise Problem(
            429,
            "rate-limited",
            f"{name} may send at most {window.rate}",
            headers={"Retry-After": str(int(seconds) + 1)},
        )


class Window:
    """A sliding window: the requests of the present interval, plus a share of those of the last.

    Only callers of these two intervals are remembered, and the callers are never iterated over:
    there may be a hundred thousand addresses. (The package `limits` iterates over all each 10 ms.)
    """

    def __init__(self, rate: RateLimitItem, began: float) -> None:
        """`began` and all other instants are in seconds of one monotonic clock."""
        self.rate = rate
        self._began = began
        self._length = rate.get_expiry()
        self._number = 0
        self._sent: dict[tuple[str, ...], int] = {}
        self._before: dict[tuple[str, ...], int] = {}

    def count(self, who: tuple[str, ...], now: float) -> float | None:
        """Count one; or return in how many seconds another may come."""
        number, into = divmod(now - self._began, self._length)
        if number != self._number:
            self._before = self._sent if number == self._number + 1 else {}
            self._sent, self._number = {}, int(number)
        passed, most = into / self._length, self.rate.amount
        sent, before = self._sent.get(who, 0), self._before.get(who, 0)
        if before * (1 - passed) + sent < most:
            self._sent[who] = sent + 1
            return None
        if sent < most:  # until then, this share of the last interval must have passed
            return (1 - (most - sent) / before - passed) * self._length
        return (1 - passed + max(1 - most / max(sent, 1), 0)) * self._length
