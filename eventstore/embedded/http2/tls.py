"""TLS for the listener: certificate, key, and the credentials that come over it."""

import ssl
from base64 import b64decode
from hmac import compare_digest
from pathlib import Path

from grpc import StatusCode

from eventstore.embedded.protocol.errors import RpcError

USER = "admin"
PASSWORD = "changeit"
"""The default password of the real server, which is in the clients' documentation."""


class TlsError(Exception):
    """The given files cannot be used for TLS."""


def tls_context(
    certificate: Path | None, private_key: Path | None, user_ca: Path | None = None
) -> ssl.SSLContext | None:
    """Return the listener's TLS context; None if neither file is given.

    With `user_ca` it serves only clients with a certificate signed by that CA.
    """
    if certificate is None and private_key is None:
        return None
    if certificate is None or private_key is None:
        raise TlsError("--tls-certificate and --tls-private-key go together")
    for file in (certificate, private_key):
        try:
            file.read_bytes()  # OpenSSL does not report which of the two it cannot read
        except OSError as error:
            raise TlsError(f"cannot read {file}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    try:
        # A password, so that OpenSSL does not ask the terminal for one if the key is encrypted.
        context.load_cert_chain(certificate, private_key, password="")
    except ssl.SSLError as error:
        why = (error.reason or "not a certificate and its unencrypted key in PEM").replace("_", " ")
        raise TlsError(f"{certificate} and {private_key}: {why}") from error
    if user_ca is not None:
        context.load_verify_locations(user_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def check_credentials(authorization: bytes | None) -> None:
    """Check credentials if any are sent; they are optional, as there are no access rights.

    Raises ``RpcError``, UNAUTHENTICATED.
    """
    if authorization is None:
        return
    scheme, _, value = authorization.partition(b" ")
    try:
        given = b64decode(value.strip(), validate=True) if scheme.lower() == b"basic" else b""
    except ValueError:
        given = b""
    if not compare_digest(given, f"{USER}:{PASSWORD}".encode()):
        raise RpcError(StatusCode.UNAUTHENTICATED, "Invalid user name or password.")
