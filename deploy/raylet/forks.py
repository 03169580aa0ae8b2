"""The process that imports what actors need, once, and forks each of them from that.

`python -m deploy.raylet.forks SOCKET MODULE…`, with a socket that listens as descriptor SOCKET. It
ends when its standard input does, which is a pipe that its parent holds, and so do its forks: Ray
lets them look for the parent by its number, which stands for a process that nobody has waited for.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

END = b"\0"
"""Ends a request; JSON has none."""

PATIENCE = 5.0
"""Seconds for whoever connected to say what it wants."""

_FORK = "fork"

_STANDARD = 3
"""Standard input, output and error, which travel with each request."""


@dataclass(frozen=True)
class Request:
    """What is to be run, as who asks would have run it."""

    arguments: list[str]
    """A script and what follows it."""
    environment: dict[str, str]
    folder: str
    oom_score_adj: str
    """Of who asks: Ray lets its workers go first when memory runs out."""
    descriptors: list[int]
    answer: socket.socket


def main(listener: socket.socket, modules: Sequence[str]) -> None:
    """Import the modules; then be each process that is asked for, in a fork."""
    # As Ray has it for its own: Ctrl-C is for who started us.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _import(modules)
    gc.collect()
    gc.freeze()  # a collection in a fork would write to, and so copy, what all of them share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # their ends are Ray's business
    asked = _serve(listener)
    if asked is None:
        shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
    else:
        _become(asked)


def _import(modules: Sequence[str]) -> None:
    """Import them, or all in front of the first that cannot be: forks import that for themselves.

    One that breaks, or begins threads, cannot be undone: this process begins again without it.
    """
    for at, module in enumerate(modules):
        try:
            import_module(module)
            if len(threads := os.listdir("/proc/self/task")) > 1:
                # A lock that one of them holds would never be freed in a fork.
                raise ImportError(f"it has begun threads: {threads}")
        except Exception as error:
            told = f"{module} cannot be imported once for all actors: {error!r}"
            if at == 0:
                sys.exit(told)
            print(told, file=sys.stderr, flush=True)
            command = sys.orig_argv[1 : len(sys.orig_argv) - len(modules) + at]
            os.execv(sys.executable, [sys.executable, *command])


def _serve(listener: socket.socket) -> Request | None:
    """Return a request in each fork, and nothing in this process at its end."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data is _FORK:  # it has ended
                    waiting.unregister(key.fd)
                    os.close(key.fd)
                elif key.fileobj is sys.stdin:
                    _end(_forks(waiting))
                    return None
                elif (request := _fork(listener, waiting)) is not None:
                    listener.close()
                    for each in _forks(waiting):
                        os.close(each)
                    return request


def _fork(listener: socket.socket, waiting: selectors.BaseSelector) -> Request | None:
    """Return what is asked for in the fork, and nothing here, where its end is waited for."""
    connection, _ = listener.accept()
    try:
        request = _read(connection)
        pid = os.fork()
        if pid == 0:
            return request
        for each in request.descriptors:
            os.close(each)
        with suppress(ProcessLookupError):  # it has ended
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, _FORK)
    except (OSError, TypeError, ValueError) as error:  # it is told by our silence
        print(f"a process could not be forked: {error}", file=sys.stderr, flush=True)
    connection.close()
    return None


def _forks(waiting: selectors.BaseSelector) -> list[int]:
    """Return what stands for those that have not ended."""
    return [key.fd for key in waiting.get_map().values() if key.data is _FORK]


def _end(forks: Sequence[int]) -> None:
    for each in forks:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(each, signal.SIGKILL)


def _read(connection: socket.socket) -> Request:
    connection.settimeout(PATIENCE)
    said, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, _STANDARD)
    try:
        while not said.endswith(END):
            if not (more := connection.recv(1 << 16)):
                raise ValueError("who asked is gone")
            said += more
        told = json.loads(said.removesuffix(END))
        if len(descriptors) != _STANDARD:
            raise ValueError("standard input, output and error did not come along")
        return Request(**told, descriptors=descriptors, answer=connection)
    except BaseException:
        for each in descriptors:
            os.close(each)
        raise


def _wanted(answer: socket.socket) -> bool:
    """Say that this is there. Who has waited for too long is Python meanwhile, and the worker."""
    with answer:
        try:
            answer.send(b"ready")
            return answer.recv(1) != b""
        except OSError:
            return False


def _become(request: Request) -> None:
    for number, each in enumerate(request.descriptors):
        os.dup2(each, number)
        os.close(each)
    if not _wanted(request.answer):
        return
    # A group of its own: a raylet kills the group of a worker that has ended.
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(request.oom_score_adj)
    script = request.arguments[0]
    sys.argv = request.arguments
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
