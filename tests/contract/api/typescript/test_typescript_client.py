"""A TypeScript client that is generated from the document is well typed.

Needs Node and what `npm ci` installs beside it: see `make clients`. Collected where that is there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from api.openapi.document import openapi
from rayfold import Registry

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("package", "sources"),
    [("domain", ["schema.ts", "client.ts"]), ("examples.shop", ["schema.ts"])],
)
def test_generated_types_pass_the_strict_compiler(
    package: str, sources: list[str], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / "openapi.json").write_text(json.dumps(openapi(Registry.load(package))))
    shutil.copy(HERE / "client.ts", tmp_path)
    options = json.loads((HERE / "tsconfig.json").read_text())
    (tmp_path / "tsconfig.json").write_text(json.dumps({**options, "files": sources}))
    # Else a field with a default has to be given: docs/reference/http.md says so.
    optional = "--default-non-nullable=false"
    _run("openapi-typescript", "openapi.json", "--output", "schema.ts", optional, folder=tmp_path)
    _run("tsc", "--project", "tsconfig.json", folder=tmp_path)


def _run(program: str, *arguments: str, folder: Path) -> None:
    command = [str(HERE / "node_modules" / ".bin" / program), *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
