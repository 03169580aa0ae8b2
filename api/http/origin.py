"""Checks of a request's origin: a page of another site must not act for its visitor.

Programs send neither `Origin` nor `Sec-Fetch-Site`. Browsers send `Origin` with every request that
may change something, and no page can prevent or forge that. `Host` is the name that the browser
used. A name that an attacker owns may resolve to 127.0.0.1, so without tokens a name is accepted
only if nobody else can own it. A proxy may send another `Host` than the browser did, but
`Sec-Fetch-Site` is about the address that the browser used.
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
"""Suffixes of names that nobody can own on the web: ICANN has reserved the first, and Kubernetes'
are not top-level domains (`local` is excluded from the DNS by RFC 6762)."""
_OF_PROXIES = (b"forwarded", b"via", b"x-forwarded-", b"x-real-ip")
"""Prefixes of the headers that proxies add; some of these give only the scheme or the port."""


class Origins:
    """Distinguishes requests of our own pages and of programs from those of other sites."""

    def __init__(self, hosts: Collection[str], *, open_to_all: bool) -> None:
        """`hosts` are names under which the gateway is reached, besides addresses, loopback names
        and private ones.

        `open_to_all`: there are no tokens.
        """
        self._hosts = {host.lower() for host in hosts}
        self._open = open_to_all
        # Cached: every request has a host, and most have the same.
        self._is_own_host = lru_cache(maxsize=64)(
            lambda host: self._is_nobody_elses(_split(host.decode("latin-1"))[0])
        )

    def check_change(self, headers: Headers) -> None:
        """Check a request that may change something.

        Raises:
            Problem: 403 if a page of another site has sent it, 415 if one of ours sends other than
                JSON.
        """
        if not self.check_source(headers):
            return
        content_type = headers.get(b"content-type", b"application/json")
        media_type = content_type.partition(b";")[0].strip().lower()
        if not media_type.endswith(_JSON):
            raise Problem(415, "unsupported-media-type", "a web page must send application/json")

    def check_source(self, headers: Headers) -> bool:
        """Check the origin of a request; return whether it is a page, as opposed to a program.

        Raises:
            Problem: 403 if it is a page of another site.
        """
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return False
        if site is not None and site not in _OWN_SITE:
            raise _foreign()
        if origin is not None:
            # Browsers send it over TLS and to loopback, and no page can forge it: then `Host` is
            # not needed.
            known = site == b"same-origin"
            if not self._is_ours(origin, None if known else headers.get(b"host", b"")):
                raise _foreign()
        return True

    def check_host(self, headers: Headers, scope: Any) -> None:
        """Check that a browser did not come here by a name that somebody else owns.

        A page of that name could read the answers: the browser takes both for the same site, and
        sends neither `Origin` nor `Sec-Fetch-Site` with a GET. Requests with a token are exempt.

        Raises:
            Problem: 403 if it did.
        """
        host = headers.get(b"host")
        if self._open and host is not None and not self._is_own_host(host):
            raise _foreign_host(_split(host.decode("latin-1"))[0])

    def check_operator(self, headers: Headers, scope: Any) -> None:
        """Check a request to an operators' route.

        Without tokens it must come from this machine, by a name that only this machine can have.
        The headers of a proxy are used only to see that there is one: through a proxy on this
        machine, every request seems to come from here.

        Raises:
            Problem: 403 if it does not, or if a page of another site has sent it.
        """
        if not self._open:
            return
        client = scope.get("client")
        if client is not None and not _is_loopback(client[0]):
            raise Problem(403, "not-local", "without tokens, this is served to this machine alone")
        if any(name.startswith(_OF_PROXIES) for name in headers):
            raise Problem(403, "not-local", "without tokens, this is not served through a proxy")
        host, _ = _split(headers.get(b"host", b"").decode("latin-1"))
        if not _is_loopback(host) and host not in self._hosts:
            raise _foreign_host(host)
        self.check_source(headers)

    def _is_ours(self, origin: bytes, host: bytes | None) -> bool:
        scheme, _, authority = origin.decode("latin-1").partition("://")
        default = _DEFAULT_PORTS.get(scheme.lower())
        if default is None:  # "null", or something other than a page on the web
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
    """Return the name and the port of an authority, without the brackets around an IPv6 address.

    The name is in lower case: names are case-insensitive, and programs send them as written.
    """
    authority = authority.lower()
    if authority.startswith("["):
        name, _, port = authority[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = authority.partition(":")
    return name, port


def _is_private(name: str) -> bool:
    """Return whether a name belongs to a private network: one label, as Compose's services, say."""
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
    told = f"{host or 'no host'} is not a name of this gateway: without tokens, add it to `hosts`"
    return Problem(403, "foreign-host", told)


def _foreign() -> Problem:
    return Problem(403, "foreign-origin", "a page of another site may not do this")
