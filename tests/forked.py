"""`coord` in forks of one process that has imported it: a command costs a tenth of a second instead of a
second.

The command is the real one, in a process, a folder and an environment of its own. What is not tried here is
how an interpreter starts: tests of that begin the installed script (`Stage.begin`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

LONGEST_REQUEST = 1 << 20


class ForkServer:
    """Asked by several threads at once. Starts at its first command; ended by `close`."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """As subprocess.run, with an empty standard input. `command`: the script of `coord` and its
        arguments.
        """
        answers, theirs = socket.socketpair()
        with TemporaryFile() as out, TemporaryFile() as err, answers:
            request = json.dumps([list(command), str(cwd), dict(env)]).encode(errors="surrogateescape")
            with theirs:
                socket.send_fds(self._connection(), [request], [out.fileno(), err.fileno(), theirs.fileno()])
            answers.settimeout(timeout)
            pid = None
            try:
                pid = int(_line(answers))
                code = int(_line(answers))
            except TimeoutError:
                if pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout, _whole(out), _whole(err)) from None
            return subprocess.CompletedProcess(command, code, _whole(out), _whole(err))

    def _connection(self) -> socket.socket:
        with self._starting:
            if self._requests is None:
                self._requests, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
                self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, __file__, str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                    )
            return self._requests

    def close(self) -> None:
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.wait()


def _line(answers: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := answers.recv(1)):
            raise ConnectionError("the fork server ended, or its child was killed")
        line += byte
    return line


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def serve(requests: socket.socket) -> None:
    _import_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        request, fds, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _carry_out(request, fds)
        for fd in fds:
            os.close(fd)


def _import_all() -> None:
    from coordination.cli.app import COMMANDS

    for family in COMMANDS.values():
        for place, *_ in family.values():
            importlib.import_module(f"coordination.cli.{place.partition(':')[0]}")
    importlib.import_module("coordination.api.runs")
    gc.freeze()


def _carry_out(request: bytes, fds: Sequence[int]) -> NoReturn:
    out, err, answer = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        for fd in fds:
            os.close(fd)
        _become_coord(*json.loads(request.decode(errors="surrogateescape")))
    os.write(answer, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become_coord(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> NoReturn:
    from coordination.cli import main

    os.environ.clear()
    os.environ.update(env)
    code: Any = 1
    try:
        os.chdir(cwd)
        sys.argv = [*command]
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        _end_as_an_interpreter_does(code if isinstance(code, int) else 1)


def _end_as_an_interpreter_does(code: int) -> NoReturn:
    if sys.exc_info()[0] not in (None, SystemExit):
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    serve(socket.socket(fileno=int(sys.argv[1])))
