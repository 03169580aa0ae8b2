"""An event store that refuses us prevents the start of `rayfold up`, with one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.contract.eventstore.cluster_process import ClusterProcess
from tests.integration.stack.test_command_line import assert_one_line, run
from tests.ports import free_port


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcess]:
    """Three nodes named `localhost`; their CA, and another, are in the folder of their data."""
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "node.pem")
    files = (f"--tls-certificate={folder}/node.pem", f"--tls-private-key={folder}/node.pem")
    process = ClusterProcess(folder, "--host", "localhost", *files)
    yield process
    process.stop()


@pytest.mark.parametrize(
    ("password", "ca", "host", "says"),
    [
        ("wrong", "ca.pem", "localhost", "it does not know user 'admin' with this password"),
        ("changeit", "other.pem", "localhost", "is signed by no CA in "),
        ("changeit", "ca.pem", "127.0.0.1", "is for another name than '127.0.0.1'"),
    ],
)
def test_the_reason_why_the_store_refuses_is_one_line(
    secure: ClusterProcess, tmp_path: Path, password: str, ca: str, host: str, says: str
) -> None:
    targets = ",".join(secure.targets).replace("localhost", host)
    uri = f"kdb://admin:{password}@{targets}?TlsCaFile={secure.data / ca}"
    result = run("up", "--eventstore", uri, "--port", str(free_port()), cwd=tmp_path)
    assert_one_line(result, says)
    assert "check --eventstore" in result.stderr
    assert f":{password}@" not in result.stderr
    assert "ssl_transport_security" not in result.stderr
