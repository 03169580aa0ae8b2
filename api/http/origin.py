"""The origin of a request: a page of another site must not act for its visitor.

Programs send neither `Origin` nor `Sec-Fetch-Site`; browsers send the first with whatever may
change something, and no page can keep them from it or forge it. `Host` is what the browser was
led to: a name that an attacker owns may lead to 127.0.0.1, so where nobody needs a token, a name
counts only if it can be nobody else's. A proxy may send another `Host` than the browser did; what
the browser itself says of a page's origin, it says of the address that it knows.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from api.http.headers import Headers
from api.http.problems import Problem

_OWN_SITE = (b"same-origin", b"none")
_JSON = (b"application/json", b"+json")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PRIVATE = (".internal", ".svc", ".cluster.local")
"""Ends of names that nobody can have on the web: ICANN keeps the first apart, Kubernetes' are no
top-level domains (`local` is not for the DNS at all, RFC 6762)."""
_OF_PROXIES = (b"forwarded", b"via", b"x-forwarded-", b"x-real-ip")
"""What the names of headers begin with that proxies add: some say the scheme or the port alone."""


class Origins:
    """Tells requests of our own pages and of programs from those of other sites."""

    def __init__(self, hosts: Collection[str], *, open_to_all: bool) -> None:
        """`hosts` are names under which the gateway is reached, beside addresses, loopback names
        and private ones.

        `open_to_all` says that nobody needs a token.
        """
        self._hosts = {host.lower() for host in hosts}
        self._open = open_to_all
        # Each request has one, and most have the same.
        self._is_own_host = lru_cache(maxsize=64)(
            lambda host: self._is_nobody_elses(_split(host.decode("latin-1"))[0])
        )

    def check_change(self, headers: Headers) -> None:
        """Check a request that may change something.

        Raises:
            Problem: 403 if a page of another site has sent it, 415 if one of ours sends no JSON.
        """
        if not self.check_source(headers):
            return
        content_type = headers.get(b"content-type", b"application/json")
        media_type = content_type.partition(b";")[0].strip().lower()
        if not media_type.endswith(_JSON):
            raise Problem(415, "unsupported-media-type", "a page sends application/json")

    def check_source(self, headers: Headers) -> bool:
        """Check where a request comes from; return whether that is a page, and no program.

        Raises:
            Problem: 403 if it is a page of another site.
        """
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return False
        if site is not None and site not in _OWN_SITE:
            raise _foreign()
        if origin is not None:
            # Browsers say it over TLS and on loopback, and no page can: then `Host` need not.
            known = site == b"same-origin"
            if not self._is_ours(origin, None if known else headers.get(b"host", b"")):
                raise _foreign()
        return True

    def check_host(self, headers: Headers, scope: Any) -> None:
        """Check that a browser was not led here under a name that is somebody else's.

        A page of that name would read what it asks for: to the browser both are one site, and it
        sends neither `Origin` nor `Sec-Fetch-Site` with a GET. Whoever shows a token need not say.

        Raises:
            Problem: 403 if it was.
        """
        host = headers.get(b"host")
        if self._open and host is not None and not self._is_own_host(host):
            raise _foreign_host(_split(host.decode("latin-1"))[0])

    def check_operator(self, headers: Headers, scope: Any) -> None:
        """Check a request to an operators' route.

        Without tokens it must come from this machine, under a name that only it can have. What a
        proxy says of where it comes from is believed only in that it passed the request on: a
        proxy on this machine makes every request come from here.

        Raises:
            Problem: 403 if it does not, or if a page of another site has sent it.
        """
        if not self._open:
            return
        client = scope.get("client")
        if client is not None and not _is_loopback(client[0]):
            raise Problem(403, "not-local", "without tokens this answers to this machine alone")
        if any(name.startswith(_OF_PROXIES) for name in headers):
            raise Problem(403, "not-local", "without tokens this answers to no proxy")
        host, _ = _split(headers.get(b"host", b"").decode("latin-1"))
        if not _is_loopback(host) and host not in self._hosts:
            raise _foreign_host(host)
        self.check_source(headers)

    def _is_ours(self, origin: bytes, host: bytes | None) -> bool:
        scheme, _, authority = origin.decode("latin-1").partition("://")
        default = _DEFAULT_PORTS.get(scheme.lower())
        if default is None:  # "null", or something else than a page on the web
            return False
        name, port = _split(authority)
        if host is not None:
            own_name, own_port = _split(host.decode("latin-1"))
            if (name, port or default) != (own_name, own_port or default):
                return False
        return not self._open or self._is_nobody_elses(name)

    def _is_nobody_elses(self, name: str) -> bool:
        return name in self._hosts or _is_loopback(name) or _is_address(name) or _is_private(name)


def _split(authority: str) -> tuple[str, str]:
    """Return the name and the port of an authority; brackets around IPv6 are left out.

    Names are the same in capitals, which programs send as they are given.
    """
    authority = authority.lower()
    if authority.startswith("["):
        name, _, port = authority[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = authority.partition(":")
    return name, port


def _is_private(name: str) -> bool:
    """Whether a name is of a network of one's own: of one label, as Compose's services are, say."""
    return name.endswith(_PRIVATE) or ("." not in name and name.isascii() and name != "")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _foreign_host(host: str) -> Problem:
    told = f"{host or 'no host'} is no name of this gateway: without tokens, `hosts` has to have it"
    return Problem(403, "foreign-host", told)


def _foreign() -> Problem:
    return Problem(403, "foreign-origin", "a page of another site cannot do this")
