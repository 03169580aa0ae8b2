"""The fork server's process: imports what actors need once, and forks each of them.

`python -m deploy.raylet.fork_server_process SOCKET MODULE…`: SOCKET is the descriptor of a
listening socket. The process ends when its standard input does, a pipe that its parent holds, and
so do its forks: Ray makes them look for the parent by its process id, which stays valid as nobody
has waited for that process.
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
"""Ends a request; JSON text never contains it."""

TIMEOUT = 5.0
"""Seconds within which a client must send its request."""

PAUSE = 0.1
"""Seconds until another accept after one that failed, for lack of descriptors for example."""

_FORK = "fork"

_DESCRIPTORS = 4
"""Standard input, output and error, and the working folder, which are sent with each request."""


@dataclass(frozen=True)
class Request:
    """What to run, as the client would have run it."""

    arguments: list[str]
    """A script and its arguments."""
    environment: dict[str, str]
    oom_score_adj: str
    """The client's: Ray makes its workers the first to be killed when memory runs out."""
    limits: dict[str, list[int]]
    """The client's, by number: Ray raises the limit of open files after this process began."""
    descriptors: list[int]
    answer: socket.socket

    def close(self) -> None:
        """Close the received descriptors."""
        for each in self.descriptors:
            os.close(each)
        self.answer.close()


def main(listener: socket.socket, modules: Sequence[str]) -> None:
    """Import the modules; then run each requested process in a fork."""
    # As in Ray's own workers: Ctrl-C is for the process that started us.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _import(modules)
    gc.collect()
    gc.freeze()  # a garbage collection in a fork would write to, and so copy, the shared memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Ray deals with their ends
    asked = _serve(listener)
    if asked is None:
        shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
    else:
        _become(asked)


def _import(modules: Sequence[str]) -> None:
    """Import the modules before the first that fails: forks import the others themselves.

    A module that fails or starts threads cannot be undone: this process restarts without it.
    """
    for at, module in enumerate(modules):
        try:
            import_module(module)
            if len(threads := os.listdir("/proc/self/task")) > 1:
                # A lock that a thread holds would never be released in a fork.
                raise ImportError(f"it has begun threads: {threads}")
        except (Exception, SystemExit) as error:  # for example a script
            told = f"{module} cannot be imported once for all actors: {error!r}"
            if at == 0:
                sys.exit(told)
            print(told, file=sys.stderr, flush=True)
            command = sys.orig_argv[1 : len(sys.orig_argv) - len(modules) + at]
            os.execv(sys.executable, [sys.executable, *command])


def _serve(listener: socket.socket) -> Request | None:
    """Return a request in each fork; in this process, return None at its end."""
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
    """Return the request in the fork, and None in the server, which waits for the fork's end."""
    try:
        connection, _ = listener.accept()
    except OSError as error:
        _could_not(error)
        time.sleep(PAUSE)
        return None
    try:
        request = _read(connection)
    except Exception as error:  # whatever was sent
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
    """Log it here. The client learns of it from the missing answer."""
    print(f"a process could not be forked: {error!r}", file=sys.stderr, flush=True)


def _forks(waiting: selectors.BaseSelector) -> list[int]:
    """Return the handles of forks that have not ended."""
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
                raise ValueError("the caller is gone")
            said += more
        told = json.loads(said.removesuffix(END))
        if len(descriptors) != _DESCRIPTORS:
            raise ValueError("standard input, output, error and the folder were not passed")
        return Request(**told, descriptors=descriptors, answer=connection)
    except BaseException:
        for each in descriptors:
            os.close(each)
        raise


def _wanted(answer: socket.socket) -> bool:
    """Tell the client that the fork is there; False if it runs the worker itself by now."""
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
    with suppress(OSError):  # access to it was removed
        os.fchdir(folder)
    os.close(folder)
    if not _wanted(request.answer):
        return
    # A process group of its own: a raylet kills the group of a worker that has ended.
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request.environment)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(request.oom_score_adj)
    for which, (soft, hard) in request.limits.items():
        with suppress(OSError, ValueError):  # not above our own hard limit
            resource.setrlimit(int(which), (soft, hard))
    script = request.arguments[0]
    sys.argv = request.arguments
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
