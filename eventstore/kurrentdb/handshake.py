"""Finds out why TLS fails with a handshake of its own: gRPC's message depends on the attempt."""

from __future__ import annotations

import socket
import ssl

from kurrentdbclient.connection_spec import ConnectionSpec

from eventstore.errors import StoreRefused, StoreUnavailable

TIMEOUT = 3.0
"""Seconds for a node to complete the handshake, and to send data after that."""


def complaint(spec: ConnectionSpec) -> StoreUnavailable | None:
    """Return why TLS with the nodes fails; None if TLS is not the reason. Blocks.

    `StoreRefused` is an error that stays. One that may pass is returned if no node has the former.
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
            continue  # the node is away, which gRPC reports too
        if not unwell:
            return None
        passing = passing or StoreUnavailable(f"{target} {unwell}")
    return passing


def _unwell(target: str, context: ssl.SSLContext) -> str:
    """Return how a node fails to speak after the handshake; empty if it does speak.

    Raises:
        SSLError: it refuses the handshake, or then asks for a client certificate.
        OSError, ValueError: it cannot be reached.
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
            return f"does not answer for {TIMEOUT:g} s {when} the TLS handshake: is it overloaded?"
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
