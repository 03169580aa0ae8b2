"""The process that imports what actors need, once, and forks each of them from that.

`python -m deploy.raylet.fork_server_process SOCKET MODULE…`: SOCKET is the descriptor of one that
listens. It ends when its standard input does, which is a pipe that its parent holds, and so do its
forks: Ray lets them look for the parent by its number, which stands for a process that nobody has
waited for.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import runpy
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

END = b"\0"
"""Ends a request; JSON has none."""

TIMEOUT = 5.0
"""Seconds for whoever connected to say what it wants."""

PAUSE = 0.1
"""Seconds until the next one is taken where none could be: no descriptor was left, say."""

_FORK = "fork"

_DESCRIPTORS = 4
"""Standard input, output, error, and the folder, which travel with each request."""


@dataclass(frozen=True)
class Request:
    """What is to be run, as who asks would have run it."""

    arguments: list[str]
    """A script and what follows it."""
    environment: dict[str, str]
    oom_score_adj: str
    """Of who asks: Ray lets its workers go first when memory runs out."""
    limits: dict[str, list[int]]
    """Of who asks, by their numbers: Ray raises that of open files after this process began."""
    descriptors: list[int]
    answer: socket.socket

    def close(self) -> None:
        """Give up what came along."""
        for each in self.descriptors:
            os.close(each)
        self.answer.close()


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
        except (Exception, SystemExit) as error:  # a script, perhaps
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
    try:
        connection, _ = listener.accept()
    except OSError as error:
        _could_not(error)
        time.sleep(PAUSE)
        return None
    try:
        request = _read(connection)
    except Exception as error:  # whatever it is that was sent
        _could_not(error)
        connection.close()
        return None
    try:
        pid = os.fork()
        if pid == 0:
            return request
        _wait_for(pid, waiting)
    except OSError as error:
        _could_not(error)
    request.close()
    return None


def _wait_for(pid: int, waiting: selectors.BaseSelector) -> None:
    try:
        waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, _FORK)
    except ProcessLookupError:
        pass  # it has ended
    except OSError:  # it would not end with us
        os.kill(pid, signal.SIGKILL)
        raise


def _could_not(error: Exception) -> None:
    """Say so here. Who asked is told by our silence."""
    print(f"a process could not be forked: {error!r}", file=sys.stderr, flush=True)


def _forks(waiting: selectors.BaseSelector) -> list[int]:
    """Return what stands for those that have not ended."""
    return [key.fd for key in waiting.get_map().values() if key.data is _FORK]


def _end(forks: Sequence[int]) -> None:
    for each in forks:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(each, signal.SIGKILL)


def _read(connection: socket.socket) -> Request:
    connection.settimeout(TIMEOUT)
    said, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, _DESCRIPTORS)
    try:
        while not said.endswith(END):
            if not (more := connection.recv(1 << 16)):
                raise ValueError("who asked is gone")
            said += more
        told = json.loads(said.removesuffix(END))
        if len(descriptors) != _DESCRIPTORS:
            raise ValueError("standard input, output, error and the folder did not come along")
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
    *standard, folder = request.descriptors
    for number, each in enumerate(standard):
        os.dup2(each, number)
        os.close(each)
    with suppress(OSError):  # nobody may enter it any more
        os.fchdir(folder)
    os.close(folder)
    if not _wanted(request.answer):
        return
    # A group of its own: a raylet kills the group of a worker that has ended.
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request.environment)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(request.oom_score_adj)
    for which, (soft, hard) in request.limits.items():
        with suppress(OSError, ValueError):  # not above our own hard one
            resource.setrlimit(int(which), (soft, hard))
    script = request.arguments[0]
    sys.argv = request.arguments
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
