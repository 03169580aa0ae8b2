"""The Python that `make install` uses: the fastest of its version on this machine.

`python3 deploy/interpreter.py` prints its path. It only uses the standard library, as nothing is
installed yet. Builds of one version differ: distributions compile theirs with profiles and
link-time optimization, pyenv by default does not, and then a stack takes a tenth more CPU time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

WORTH = 1.15
"""How many times faster than the current interpreter another one must be to be chosen."""

ROUNDS = 5

FOLDERS = ("/usr/local/bin", "/usr/bin")
"""Folders that are searched in addition to PATH."""

WORK = """
import ensurepip, timeit, venv  # without these it makes no environment

class Row:
    def __init__(self, key, count):
        self.key, self.count = key, count

    def replace(self, **changes):
        return Row(**{**vars(self), **changes})

def fold(rows, key):
    row = rows.get(key) or Row(f"key-{key}", 0)
    return row.replace(count=row.count + 1)

def work():
    rows = {}
    for at in range(400):
        rows[at % 50] = fold(rows, at % 50)
    return sum(row.count for row in rows.values())

print(min(timeit.repeat(work, number=1, repeat=40)))
"""
"""The benchmark: small objects, calls and dictionaries, like our own code."""

TIMEOUT = 30.0


def main() -> None:
    """Print the path of the interpreter to use, and why if it is not the current one."""
    ours = sys.executable
    seconds = least_seconds([ours, *others()])
    chosen = fastest(seconds, ours)
    if chosen != ours:
        why = f"{seconds[ours] / seconds[chosen]:.1f} times as fast as {ours}"
        print(f"Python: {chosen}, {why}; PYTHON={ours} for that one", file=sys.stderr)
    print(chosen)


def others() -> list[str]:
    """Return the other interpreters of this version, each once."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    known = {os.path.realpath(sys.executable)}
    found = []
    for folder in (*os.get_exec_path(), *FOLDERS):
        path = Path(folder, name)
        if os.access(path, os.X_OK) and (real := os.path.realpath(path)) not in known:
            known.add(real)
            found.append(str(path))
    return found


def least_seconds(interpreters: Iterable[str]) -> dict[str, float]:
    """Return each one's best time for the same work, in turns; without those that fail."""
    found: dict[str, float] = {}
    left = list(interpreters)
    for _ in range(ROUNDS):
        for each in list(left):
            try:
                seconds = float(
                    subprocess.run(
                        [each, "-I", "-c", WORK], capture_output=True, check=True, timeout=TIMEOUT
                    ).stdout
                )
            except (OSError, subprocess.SubprocessError, ValueError):
                left.remove(each)
                found.pop(each, None)
                continue
            found[each] = min(seconds, found.get(each, seconds))
    return found


def fastest(seconds: dict[str, float], ours: str) -> str:
    """Return the fastest; ours if it is about as fast, or if it failed, as installing then will."""
    found = min(seconds, key=seconds.__getitem__, default=ours)
    return found if ours in seconds and seconds[found] * WORTH < seconds[ours] else ours


if __name__ == "__main__":
    main()
