"""A store that refuses us: each reason is one line that says what to check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from eventstore.errors import StoreRefused, StoreUnavailable
from eventstore.kurrentdb.connection import without_password
from eventstore.kurrentdb.log import EventLog
from eventstore.port import Appended, StreamAppend
from eventstore.records import NewRecord
from tests.contract.eventstore.cluster_process import ClusterProcess


class Files(NamedTuple):
    """A cluster's certificate for `localhost`, CAs right and wrong, and a user's certificate."""

    ca: Path
    other_ca: Path
    user: Path
    flags: list[str]
    user_flags: list[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    node, user = authority.issue_cert("localhost"), authority.issue_cert("ops")
    for made, name in ((node, "node"), (user, "user")):
        made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        made.private_key_pem.write_to_path(folder / f"{name}.key")
    flags = ["--tls-certificate", f"{folder}/node.pem", "--tls-private-key", f"{folder}/node.key"]
    return Files(
        folder / "ca.pem",
        folder / "other.pem",
        folder / "user",
        flags,
        ["--tls-user-ca", f"{folder}/ca.pem"],
    )


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[ClusterProcess]:
    process = ClusterProcess(tmp_path_factory.mktemp("store"), "--host", "localhost", *files.flags)
    yield process
    process.stop()


async def why(uri: str, kind: type[StoreUnavailable] = StoreRefused) -> str:
    """Return the line that connecting ends with."""
    log = EventLog(uri)
    with pytest.raises(StoreUnavailable) as refused:
        await log.connect()
    await log.close()
    assert type(refused.value) is kind
    line = str(refused.value)
    assert "\n" not in line
    assert "changeit" not in line
    return line


async def append_to(uri: str, stream: str) -> None:
    log = EventLog(uri)
    await log.connect()
    [answer] = await log.append([StreamAppend(stream, None, [NewRecord("A", b"{}", {}, ID)])])
    assert isinstance(answer, Appended)
    assert [raw.revision async for raw in log.read_stream(stream, limit=1)] == [0]
    assert [raw.revision async for raw in log.read_all([stream])] == [0]
    await log.close()


ID = "6a2f7a0e-6f0f-4b7e-9d52-0c35a2d1f6aa"


def spelt(cluster: ClusterProcess, nodes: int, user: str = "admin:changeit", **more: object) -> str:
    """Return a connection string for the first `nodes`."""
    query = "&".join(f"{name}={value}" for name, value in {"Tls": "true", **more}.items())
    return f"kdb://{user}@{','.join(cluster.targets[:nodes])}?{query}"


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_ca_file_and_a_password_let_us_in(
    secure: ClusterProcess, files: Files, nodes: int
) -> None:
    await append_to(spelt(secure, nodes, TlsCaFile=files.ca), f"a-{nodes}")


async def test_a_password_may_be_escaped_as_uris_are(secure: ClusterProcess, files: Files) -> None:
    await append_to(spelt(secure, 3, "admin:change%69t", TlsCaFile=files.ca), "a-escaped")


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_wrong_password_is_told(secure: ClusterProcess, files: Files, nodes: int) -> None:
    line = await why(spelt(secure, nodes, "admin:changeitnot", TlsCaFile=files.ca))
    assert line == "it does not know user 'admin' with this password"


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("given", [True, False], ids=["other CA", "no CA"])
async def test_a_wrong_ca_is_told(
    secure: ClusterProcess, files: Files, nodes: int, given: bool
) -> None:
    ca: dict[str, object] = {"TlsCaFile": files.other_ca} if given else {}
    told = (
        f"signed by no CA in {files.other_ca}" if given else "signed by no CA that TlsCaFile names"
    )
    assert told in await why(spelt(secure, nodes, **ca))


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_certificate_for_another_name_is_told(
    secure: ClusterProcess, files: Files, nodes: int
) -> None:
    uri = spelt(secure, nodes, TlsCaFile=files.ca).replace("localhost", "127.0.0.1")
    assert (await why(uri)).endswith("is for another name than '127.0.0.1'")


async def test_a_file_that_is_not_there_is_told(secure: ClusterProcess, tmp_path: Path) -> None:
    line = await why(spelt(secure, 3, TlsCaFile=tmp_path / "missing.pem"))
    assert line == f"cannot read {tmp_path}/missing.pem: No such file or directory"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("kdb://node1,node2", "Username and password are required"),
        ("http://admin:changeit@node1", "Invalid URI scheme"),
        ("kdb://admin:changeit@node1?TlsCa=x", "Unknown field"),
        ("kdb://admin:changeit@node1?NodePreference=nearest", "not one of"),
        ("kdb://[::1?Tls=false", ""),
    ],
)
async def test_a_connection_string_that_makes_no_sense_is_told(uri: str, told: str) -> None:
    assert told in await why(uri)


async def test_tls_is_not_spoken_to_a_node_without(tmp_path: Path) -> None:
    plain = ClusterProcess(tmp_path / "store")
    try:
        assert "Tls=false" in await why(spelt(plain, 3))
    finally:
        plain.stop()


async def test_a_user_may_have_a_certificate(files: Files, tmp_path: Path) -> None:
    flags = ["--host", "localhost", *files.flags, *files.user_flags]
    cluster = ClusterProcess(tmp_path / "store", *flags)
    mine = {"UserCertFile": f"{files.user}.pem", "UserKeyFile": f"{files.user}.key"}
    try:
        await append_to(spelt(cluster, 3, TlsCaFile=files.ca, **mine), "a-1")
        # gRPC's server does not say why it ends: it may be that, and it may pass.
        line = await why(spelt(cluster, 1, TlsCaFile=files.ca), StoreUnavailable)
        assert "does it want another UserCertFile and UserKeyFile" in line
    finally:
        cluster.stop()


def test_a_password_is_never_shown() -> None:
    assert without_password("kdb://me:p@ss@a,b?x=y@z") == "kdb://me:…@a,b?x=y@z"
    assert without_password("kdb://me:p/ss@a,b?x=y") == "kdb://me:…@a,b?x=y"
    assert without_password("kdb://a:1,b:2?Tls=false") == "kdb://a:1,b:2?Tls=false"
