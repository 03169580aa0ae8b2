"""Build and run the image where there is no container engine: its steps, in a plain Debian root.

The steps are read from the Dockerfile, so they cannot drift from it; an instruction that is not
known here is an error. It needs Linux, root, `mmdebstrap` and util-linux.

    python3 deploy/container/without_an_engine.py build /tmp/image
    python3 deploy/container/without_an_engine.py run /tmp/image -- status
    python3 deploy/container/without_an_engine.py try /tmp/image

`try` runs the README's commands in it, in namespaces of their own: no network, no other process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

CONTEXT = Path(__file__).resolve().parents[2]
DOCKERFILE = Path(__file__).with_name("Dockerfile")

READY = 120.0
"""Seconds within which the stack must be ready, and each of the README's commands must finish."""

LENT = re.compile(r"PIP_|(https?|no)_proxy$", re.IGNORECASE)
"""Environment variables that an engine would pass to the steps too: this machine's access to its
registries.
"""


class Instruction(NamedTuple):
    """An instruction, such as `RUN`, and its text."""

    name: str
    text: str


@dataclass
class Config:
    """The configuration with which a container starts."""

    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def instructions(text: str) -> list[Instruction]:
    """Return a Dockerfile's instructions in order."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def sent(context: Path, ignored: str) -> Iterator[Path]:
    """Return the context's files that `.dockerignore` leaves, relative to it."""
    rules = [(line.lstrip("!"), line.startswith("!")) for line in ignored.splitlines() if line]
    patterns = [(_pattern(rule), kept) for rule, kept in rules if not rule.startswith("#")]
    for folder, folders, files in os.walk(context):
        folders[:] = [each for each in folders if each not in (".git", ".venv", "node_modules")]
        for file in files:
            path = (Path(folder) / file).relative_to(context)
            kept = True
            for pattern, keeps in patterns:
                if pattern.match(path.as_posix()):
                    kept = keeps
            if kept:
                yield path


def _pattern(rule: str) -> re.Pattern[str]:
    """Return a pattern for a rule of `.dockerignore`, matching a path or a folder above it."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?)", rule)
    return re.compile("".join(parts.get(each, re.escape(each)) for each in tokens) + "(?:/|$)")


class Builder:
    """Runs each stage in a root folder of its own; the last one becomes the image."""

    def __init__(self, scratch: Path, lent: list[str]) -> None:
        """`lent` are files of this machine that the steps may read: `file`, or `file:elsewhere`."""
        self._scratch = scratch
        self._lent = lent
        self._stages: dict[str, tuple[Path, Config]] = {}
        self._root, self._config = scratch, Config()

    def build(self) -> tuple[Path, Config]:
        """Return the image's root and its configuration."""
        for name, text in instructions(DOCKERFILE.read_text()):
            print(f"==> {name} {text}", flush=True)
            getattr(self, f"_{name.lower()}", self._unknown)(text)
        return self._root, self._config

    def _unknown(self, text: str) -> None:
        raise SystemExit(f"the Dockerfile has an instruction that is not known here: {text}")

    def _from(self, text: str) -> None:
        image, _, name = text.partition(" AS ")
        root = self._scratch / f"stage-{len(self._stages)}"
        if image in self._stages:
            base, config = self._stages[image]
            subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
            config = Config(**json.loads(json.dumps(asdict(config))))
        elif suite := re.fullmatch(r"debian:(\w+)-slim", image):
            command = ["mmdebstrap", "--quiet", "--variant=minbase", suite[1], str(root)]
            subprocess.run(command, check=True)
            # An image would not have what `mmdebstrap` copies from this machine.
            (root / "etc/hostname").write_text("image\n")
            config = Config(env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"})
        else:
            raise SystemExit(f"the base image is not debian:RELEASE-slim: {image}")
        self._root, self._config = root, config
        self._stages[name or f"stage {len(self._stages)}"] = (root, config)

    def _run(self, text: str) -> None:
        lent = {name: value for name, value in os.environ.items() if LENT.match(name)}
        step = ["/bin/sh", "-c", text]
        process = enter(self._root, self._config, step, env=lent, files=self._lent, network=True)
        if process.wait() != 0:
            raise SystemExit("the step failed")

    def _copy(self, text: str) -> None:
        words = text.split()
        options = [words.pop(0) for _ in range(len(words)) if words[0].startswith("--")]
        *sources, target = words
        place = self._root / (Path(self._config.folder) / target).relative_to("/")
        [stage] = [each.removeprefix("--from=") for each in options] or [""]
        if stage:
            [source] = sources
            place.parent.mkdir(parents=True, exist_ok=True)
            origin = self._stages[stage][0] / source.lstrip("/")
            subprocess.run(["cp", "-a", str(origin), str(place)], check=True)
            return
        ignored = (CONTEXT / ".dockerignore").read_text()
        files = [path for path in sent(CONTEXT, ignored) if not path.is_absolute()]
        for source in sources:
            chosen = [path for path in files if path.is_relative_to(source)]
            if not chosen:
                raise SystemExit(f"COPY {source}: not in the context")
            for path in chosen:
                inner = path.name if path == Path(source) else path.relative_to(source)
                file = path == Path(source) and not target.endswith("/")
                copied = place if file else place / inner
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(CONTEXT / path, copied)

    def _workdir(self, text: str) -> None:
        self._config.folder = text
        (self._root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _env(self, text: str) -> None:
        self._config.env |= dict(word.split("=", 1) for word in shlex.split(text))

    def _user(self, text: str) -> None:
        self._config.user = text

    def _entrypoint(self, text: str) -> None:
        self._config.entrypoint = json.loads(text)

    def _cmd(self, text: str) -> None:
        self._config.command = json.loads(text)

    def _healthcheck(self, text: str) -> None:
        self._config.health = json.loads(text.partition("CMD ")[2])

    def _expose(self, text: str) -> None:
        """Do nothing: it is documentation."""

    def _stopsignal(self, text: str) -> None:
        """Do nothing: `try` sends the same."""


def enter(
    root: Path,
    config: Config,
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    files: list[str] | None = None,
    network: bool = False,
    netns: str | None = None,
    read_only: bool = False,
    inside: int | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in the root, as the first process of new or of another's namespaces.

    `env` and `files` are only for this command. Without `network` it has only a loopback interface,
    or the network of `netns`. A `read_only` command can only write to /tmp and /data, and leaves
    nothing.
    """
    user, _, group = config.user.partition(":")
    variables = {"HOME": "/root", "LANG": "C.UTF-8"} | config.env | (env or {})
    if user != "0" and "HOME" not in (env or {}):
        variables["HOME"] = "/home/rayfold"
    words = [f"{name}={value}" for name, value in variables.items()]
    begin = f"cd {shlex.quote(config.folder)} && exec " + shlex.join(command)
    chroot = ["chroot", f"--userspec={user}:{group or user}", str(root), "/usr/bin/env", "-i"]
    main = shlex.join([*chroot, *words, "/bin/sh", "-c", begin])
    if inside is not None:
        own = ["nsenter", f"--target={inside}", "--mount", "--pid", "--net"]
        return subprocess.Popen([*own, "sh", "-c", f"exec {main}"])
    mounts = [
        f"mount --bind {root} {root}",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev && mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",
    ]
    if network:
        files = [*(files or []), "/etc/resolv.conf", "/etc/hosts"]
    elif netns is None:
        mounts.append("ip link set lo up")
    for each in files or []:
        file, _, other = each.partition(":")
        inner = shlex.quote(f"{root}{other or file}")
        mounts.append(f"mkdir -p $(dirname {inner}); touch {inner}; mount --bind {file} {inner}")
    if read_only:
        mounts.append(f"mount -t tmpfs -o mode=0700,uid={user},gid={group} tmpfs {root}/data")
        mounts.append(f"mount -o remount,bind,ro {root}")
    elsewhere = ["ip", "netns", "exec", netns] if netns else []
    spaces = ["unshare", "--mount", "--pid", "--uts", "--fork"]
    alone = [] if network or netns else ["--net"]
    script = "; ".join([*mounts, f"exec {main}"])
    return subprocess.Popen(
        [*elsewhere, *spaces, *alone, "sh", "-ec", script],
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
    )


def first_process(unshared: int) -> int:
    """Return the first process in the namespaces: the only child of `unshare`."""
    children = Path(f"/proc/{unshared}/task/{unshared}/children")
    for _ in range(100):
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.05)
    raise SystemExit("the container has not begun")


def readme_commands(text: str) -> list[str]:
    """Return the README's shell blocks that query a running stack.

    The image has `rayfold` on its path; its arguments are the README's own.
    """
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    chosen = [each for each in blocks if "curl" in each or "rayfold status" in each]
    return [each.replace(".venv/bin/rayfold", "rayfold") for each in chosen]


def try_out(root: Path, config: Config) -> None:
    """Run `rayfold up` in the image, its health check, and the README's commands."""
    since = time.monotonic()
    stack = enter(root, config, [*config.entrypoint, *config.command])
    try:
        first = first_process(stack.pid)
        while enter(root, config, _quiet(config.health), inside=first).wait() != 0:
            if stack.poll() is not None or time.monotonic() - since > READY:
                raise SystemExit("the image does not serve")
            time.sleep(0.5)
        print(f"==> healthy after {time.monotonic() - since:.1f} s", flush=True)
        for block in readme_commands((CONTEXT / "README.md").read_text()):
            lines = [line for line in block.splitlines() if line and not line.startswith("#")]
            _try_block(lines, root, config, first)
    finally:
        os.kill(first_process(stack.pid), signal.SIGTERM)
        code = stack.wait(READY)
    print(f"==> stopped by SIGTERM, exit code {code}", flush=True)
    if code not in (0, 128 + signal.SIGTERM):
        raise SystemExit(code)


def _quiet(command: list[str]) -> list[str]:
    """Return the command without its error output: until the stack serves, the check must fail."""
    return ["/bin/sh", "-c", f"{shlex.join(command)} 2>/dev/null"]


def _try_block(lines: list[str], root: Path, config: Config, first: int) -> None:
    """Run a block line by line in one shell, and stop at the first failing line.

    The image has no curl and needs none: this machine's runs on the image's loopback.
    """
    for_curl = [line for line in lines if "curl" in line or line.startswith("ORDER=")]
    for_rayfold = [line for line in lines if line not in for_curl]
    curls = [line.replace("curl -s ", "curl -sS --fail-with-body ") for line in for_curl]
    echoed = [part for line in curls for part in (f"echo; echo {shlex.quote('$ ' + line)}", line)]
    if curls:
        net = ["nsenter", f"--target={first}", "--net", "bash", "-ec", "\n".join([*echoed, "echo"])]
        subprocess.run(net, check=True, timeout=READY)
    for line in for_rayfold:
        print(f"$ {line}", flush=True)
        process = enter(root, config, ["/bin/bash", "-c", line], inside=first)
        if process.wait(READY) != 0:
            raise SystemExit("the command failed")


def main() -> None:
    """Build, run or try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["build", "run", "try"])
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--lend",
        action="append",
        default=[],
        help="FILE[:PATH]: a file of this machine for the steps to read, as its certificates",
    )
    parser.add_argument("command", nargs="*", help="in place of the image's own")
    options = parser.parse_args()
    image: Path = options.image.resolve()
    root, config = image / "root", image / "config.json"
    if options.what == "build":
        image.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=image) as scratch:
            built, found = Builder(Path(scratch), options.lend).build()
            built.rename(root)
        config.write_text(json.dumps(asdict(found), indent=2))
        return
    found = Config(**json.loads(config.read_text()))
    if options.what == "try":
        try_out(root, found)
        return
    process = enter(root, found, [*found.entrypoint, *(options.command or found.command)])
    sys.exit(process.wait())


if __name__ == "__main__":
    main()
