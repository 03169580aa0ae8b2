"""A Python client that is generated from the document is well typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MYPY = """\
[mypy]
strict = true
# The generator writes this file for every document alike: `__exit__(*args: object)`.
[mypy-rayfold_client.client]
disable_error_code = arg-type
"""


def test_a_generated_python_client_passes_mypy(document: Path, tmp_path: Path) -> None:
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    generated = _run(
        [
            str(tools / "openapi-python-client"),
            "generate",
            "--path",
            str(document),
            "--meta",
            "none",
            "--output-path",
            str(tmp_path / "rayfold_client"),
            "--fail-on-warning",
        ],
        tmp_path,
        environment,
    )
    assert "warning" not in generated.lower()
    (tmp_path / "mypy.ini").write_text(MYPY)
    checked = _run([str(tools / "mypy"), "rayfold_client"], tmp_path, environment)
    assert "no issues found" in checked


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
