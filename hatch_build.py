"""The wheel's build hook: what are folders here become packages under `rayfold.` there.

A checkout keeps its rooms at the top (`actors/`, `api/`, `domain/`, …). Installed like that, they
would be top-level names in a user's environment, where `domain` is the user's own. See ADR 0011.
"""

from __future__ import annotations

import ast
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOMS = ("actors", "api", "deploy", "domain", "eventstore", "projections")
VOCABULARY = "rayfold"
SCRIPT = "deploy.cli:main"


class RoomsUnderRayfold(BuildHookInterface):
    """Put the rooms below `rayfold/`, with their absolute imports rewritten."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the rewritten files to a wheel; an editable install keeps the folders as they are."""
        if version == "editable":
            return
        self._tree = Path(tempfile.mkdtemp(prefix="rayfold-wheel-"))
        root = Path(self.root)
        for room in ROOMS:
            for file in sorted((root / room).rglob("*")):
                if file.is_dir() or "__pycache__" in file.parts or not packaged(file, root / room):
                    continue
                place = self._tree / file.relative_to(root)
                place.parent.mkdir(parents=True, exist_ok=True)
                if file.suffix == ".py":
                    place.write_text(moved(file.read_text(), str(file)))
                else:
                    shutil.copyfile(file, place)
        build_data["force_include"][str(self._tree)] = VOCABULARY
        self.metadata.core.scripts["rayfold"] = f"{VOCABULARY}.{SCRIPT}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the rewritten files."""
        if version != "editable":
            shutil.rmtree(self._tree)


def packaged(file: Path, room: Path) -> bool:
    """Return whether a file of a room is code, or data of code.

    Manifests are neither: folders of `deploy/` that are no packages, for who has a checkout.
    """
    if file.parent == room:
        return file.suffix == ".py"
    return (room / file.relative_to(room).parts[0] / "__init__.py").exists()


def moved(source: str, name: str) -> str:
    """Return a module's source with `from actors.x import y` as `from rayfold.actors.x import y`.

    Raises:
        ValueError: `import actors.x` binds a name that would be another after the move.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in ROOMS:
                    raise ValueError(f"{name}:{node.lineno}: write `from {alias.name} import …`")
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.partition(".")[0] not in ROOMS:
                continue
            line = lines[node.lineno - 1]
            head, tail = line[: node.col_offset], line[node.col_offset :]
            lines[node.lineno - 1] = head + tail.replace(
                f"from {node.module}", f"from {VOCABULARY}.{node.module}", 1
            )
    return "".join(lines)
