"""Why TLS fails, asked directly: what gRPC says of it depends on which of its attempts is asked."""

from __future__ import annotations

import socket
import ssl

from kurrentdbclient.connection_spec import ConnectionSpec

TIMEOUT = 3.0
"""Seconds for a node to shake hands."""


def complaint(spec: ConnectionSpec) -> str | None:
    """Return what is wrong between us and the first node that is there; None: not TLS. Blocks."""
    options = spec.options
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca_file)
        if options.user_cert_file:
            context.load_cert_chain(options.user_cert_file, options.user_key_file)
    except ssl.SSLError as error:
        return f"TlsCaFile, UserCertFile, UserKeyFile: {_said(error)}"
    context.set_alpn_protocols(["h2"])
    for target in spec.targets:
        host, _, port = target.rpartition(":")
        host = host.strip("[]")
        shaken = False
        try:
            with (
                socket.create_connection((host, int(port)), TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=host) as secure,
            ):
                shaken = True
                if secure.recv(1):  # it speaks first, unless it misses something
                    return None
        except ssl.SSLCertVerificationError as error:
            if "mismatch" in error.verify_message.lower():
                return f"the certificate of {target} is for another name than {host!r}"
            told = f"in {options.tls_ca_file}" if options.tls_ca_file else "that TlsCaFile names"
            return f"the certificate of {target} is signed by no CA {told}: {error.verify_message}"
        except ssl.SSLError as error:
            reason = _said(error)
            if "version number" in reason or "record layer" in reason:
                return f"{target} does not speak TLS: Tls=false says so"
            if not shaken or "certificate required" not in reason:
                return f"{target}: {reason}"
        except (OSError, ValueError):
            pass  # not there: gRPC says it as well
        if shaken:
            return f"{target} closes the connection: it wants another UserCertFile and UserKeyFile"
    return None


def _said(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
