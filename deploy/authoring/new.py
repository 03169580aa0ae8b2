"""`rayfold new`: a first package of a domain, with its tests, into a folder."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from pathlib import Path

from deploy.authoring import names
from deploy.errors import StartError

SETTINGS = "rayfold.toml"

_TEMPLATE = Path(__file__).parent / "template"

_EXAMPLE = re.compile(r"\b(rayfold\.)?deploy\.authoring\.template\.example\b")
"""The name of the template's package: in a wheel, all of `deploy` is in `rayfold`."""


def write(name: str, folder: Path) -> list[Path]:
    """Write the package and its other files; return the new ones, as paths in the folder.

    Everything is written beside its place and then moved there, so that no file is incomplete.

    Raises:
        StartError: the name is invalid, a file exists already, or nothing can be written.
    """
    names.check(name)
    test = Path("tests", f"test_{name}.py")
    for taken in (Path(name), Path(f"{name}.py"), test):
        if (folder / taken).exists() or (folder / taken).is_symlink():
            raise StartError(f"{taken} exists already: nothing was written")
    names.check_free(name)
    files = {Path(name): _sources("example", name)}
    if (folder / "tests").exists():
        files[test] = _sources("tests/test_example.py", name)
    else:
        files[test.parent] = _sources("tests", name)
    if not (folder / SETTINGS).exists():
        files[Path(SETTINGS)] = {Path(): f'domain = "{name}"\n'}
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as beside:
            _place(files, Path(beside), folder)
    except OSError as error:
        raise StartError(f"{folder} cannot be written to: {error}") from error
    return [path / each for path, sources in files.items() for each in sources]


def _sources(template: str, name: str) -> dict[Path, str]:
    """Return the files of a template folder, or one file of it, under the new name."""
    root = _TEMPLATE / template
    return {
        Path(str(file.relative_to(root)).replace("example", name)): _EXAMPLE.sub(
            name, file.read_text(encoding="utf-8")
        )
        for file in ([root] if root.is_file() else sorted(root.glob("*.py")))
    }


def _place(files: dict[Path, dict[Path, str]], beside: Path, folder: Path) -> None:
    """Write all files beside their places, then move them there; or write none."""
    for path, sources in files.items():
        for each, source in sources.items():
            file = beside / path / each
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
    with ExitStack() as undone:
        for path in files:
            (beside / path).rename(folder / path)
            undone.callback((folder / path).rename, beside / path)
        undone.pop_all()
