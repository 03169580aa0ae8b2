"""Finds out why TLS fails with a handshake of its own: gRPC's message depends on the attempt."""

from __future__ import annotations

import socket
import ssl

from kurrentdbclient.connection_spec import ConnectionSpec

from eventstore.errors import StoreRefused, StoreUnavailable

TIMEOUT = 3.0
"""Seconds for a node to shake hands, and to speak after that."""


def complaint(spec: ConnectionSpec) -> StoreUnavailable | None:
    """Return what is wrong between us and the nodes; None: not TLS. Blocks.

    `StoreRefused` is what a node will say again. What may pass is returned where no node says more.
    """
    options = spec.options
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca_file)
        if options.user_cert_file:
            context.load_cert_chain(options.user_cert_file, options.user_key_file)
    except ssl.SSLError as error:
        return StoreRefused(f"TlsCaFile, UserCertFile, UserKeyFile: {_said(error)}")
    context.set_alpn_protocols(["h2"])
    passing: StoreUnavailable | None = None
    for target in spec.targets:
        try:
            unwell = _unwell(target, context)
        except ssl.SSLError as error:
            return StoreRefused(_refusal(target, error, options.tls_ca_file))
        except (OSError, ValueError):
            continue  # not there: gRPC says it as well
        if not unwell:
            return None
        passing = passing or StoreUnavailable(f"{target} {unwell}")
    return passing


def _unwell(target: str, context: ssl.SSLContext) -> str:
    """Return what a node does that does not speak once hands are shaken; empty for one that does.

    Raises:
        SSLError: it refuses to shake hands, or says then that it misses a certificate of ours.
        OSError, ValueError: it is not there.
    """
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), TIMEOUT) as plain:
        when = "during"
        try:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                when = "after"
                if secure.recv(1):
                    return ""
        except TimeoutError:
            return f"says nothing for {TIMEOUT:g} s {when} the TLS handshake: is it overloaded?"
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
            pass  # without a word, as at an end of the stream: OpenSSL has two names for that
        told = f"closes the connection {when} the TLS handshake and does not say why: "
        if when == "after":  # gRPC's own servers do so, without TLS' word for it
            told += "does it want another UserCertFile and UserKeyFile, "
        return f"{told}does it start or stop, or is it a proxy with no node behind it?"


def _refusal(target: str, error: ssl.SSLError, ca_file: str | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message.lower():
            host = target.rpartition(":")[0].strip("[]")
            return f"the certificate of {target} is for another name than {host!r}"
        told = f"in {ca_file}" if ca_file else "that TlsCaFile names"
        return f"the certificate of {target} is signed by no CA {told}: {error.verify_message}"
    reason = _said(error)
    if "version number" in reason or "record layer" in reason:
        return f"{target} does not speak TLS: Tls=false says so"
    if "certificate required" in reason:
        return f"{target} closes the connection: it wants another UserCertFile and UserKeyFile"
    return f"{target}: {reason}"


def _said(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
