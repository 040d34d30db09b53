"""`coord`, and the workers and supervisors that it starts, in forks of one process that has imported them: a
command costs a tenth of a second instead of a second, a worker a third of a second instead of 1.2.

Commands and workers are the real ones, in a process, a folder and an environment of their own. The start of
an interpreter is not tried here: tests of that begin the installed script (`Stage.begin`), or start workers
from the test itself (`Local`).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

LONGEST_REQUEST = 1 << 20
CLONE_NEWNET = 0x40000000
DAEMONS = {
    "workers": "workers.command",
    "coordination.operations.supervisor": "coordination.operations.supervisor",
}
"""Programs that `python -m` starts → module with its `main`."""


class ForkServer:
    """Asked by several threads at once. Starts at its first command; ended by `close`."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float, network: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """As subprocess.run, with an empty standard input. `command`: the script of `coord` and its
        arguments. `network`: the name of a network namespace.
        """
        with TemporaryFile() as out, TemporaryFile() as err:
            process = self.begin(command, cwd=cwd, env=env, stdout=out, stderr=err, network=network)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise subprocess.TimeoutExpired(command, timeout, _whole(out), _whole(err)) from None
            return subprocess.CompletedProcess(command, code, _whole(out), _whole(err))

    def begin(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int,
        network: str = "",
    ) -> Fork:
        """As subprocess.Popen, with an empty standard input."""
        answers, theirs = socket.socketpair()
        told = [network, list(map(str, command)), str(cwd), dict(env)]
        request = json.dumps(told).encode(errors="surrogateescape")
        with theirs:
            outputs = [file if isinstance(file, int) else file.fileno() for file in (stdout, stderr)]
            fds = [*outputs, theirs.fileno()]
            socket.send_fds(self._connection(), [request], fds)
        return Fork(list(command), answers)

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


class Fork:
    """A command in a fork; as subprocess.Popen."""

    def __init__(self, command: Sequence[str], answers: socket.socket) -> None:
        self._command = command
        self._answers = answers
        self.pid = int(_line(answers))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._command, timeout or 0)
            self.returncode = int(_line(self._answers))
            self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


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
    spawns, ours = socket.socketpair(type=socket.SOCK_SEQPACKET)
    _start_daemons_through(ours)
    _become_workers_without_exec()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        asked, _, _ = select.select([requests, spawns], [], [])
        request, fds, _, _ = socket.recv_fds(asked[0], LONGEST_REQUEST, 3)
        if not request:
            return
        if asked[0] is spawns:
            _begin_daemon(request, fds, [requests, spawns])
        elif os.fork() == 0:
            requests.close()
            spawns.close()
            _carry_out(request, fds)
        for fd in fds:
            os.close(fd)


def _import_all() -> None:
    from coordination.cli.app import COMMANDS

    for family in COMMANDS.values():
        for place, *_ in family.values():
            importlib.import_module(f"coordination.cli.{place.partition(':')[0]}")
    keys = (
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        "cryptography.hazmat.primitives.serialization",
    )
    for name in ("coordination.api.runs", "workers.consumer", *DAEMONS.values(), *keys):
        importlib.import_module(name)
    gc.freeze()


def _start_daemons_through(server: socket.socket) -> None:
    """Let every fork of this process get the workers and supervisors that it starts from the fork server."""
    from coordination.backend.daemon import Daemon

    spawn = Daemon._spawn

    def by_fork(
        daemon: Daemon, become: list[str], env: Mapping[str, str], hold: int | None
    ) -> tuple[int, int]:
        _sh, _c, _script, cwd, *command = become
        if hold is not None or command[:3] != [sys.executable, "-P", "-m"] or command[3] not in DAEMONS:
            return spawn(daemon, become, env, hold)
        waiting, gate = os.pipe()
        log = os.open(daemon.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.umask(mask := os.umask(0))
        answers, theirs = socket.socketpair()
        request = json.dumps([os.getpid(), command[3:], cwd, dict(env), mask]).encode(
            errors="surrogateescape"
        )
        with answers, theirs:
            socket.send_fds(server, [request], [waiting, log, theirs.fileno()])
            theirs.close()
            pid = int(_line(answers))
        os.close(waiting)
        os.close(log)
        return pid, gate

    Daemon._spawn = by_fork  # type: ignore[method-assign]


def _join_network(path: str) -> None:
    with Path(path).open() as network:
        if os.fstat(network.fileno()).st_ino == Path("/proc/self/ns/net").stat().st_ino:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")


def _become_workers_without_exec() -> None:
    """Let `coord worker` go on in its process, where the imports are done, as a new program."""
    execve = os.execve

    def go_on(path: str, command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
        if [*command[:4]] != [sys.executable, "-P", "-m", "workers"]:
            execve(path, command, env)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in range(3, 256):
            with suppress(OSError):  # not open
                if not os.get_inheritable(fd):  # kept occupied: objects of the former program may close it
                    os.dup2(nothing, fd, inheritable=False)
        _take_signals_as_an_interpreter_does()
        atexit._clear()
        _become(importlib.import_module(DAEMONS["workers"]).main, command[3:], str(Path.cwd()), env)

    os.execve = go_on  # type: ignore[assignment]


def _take_signals_as_an_interpreter_does() -> None:
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _begin_daemon(request: bytes, fds: Sequence[int], sockets: Sequence[socket.socket]) -> None:
    if pid := os.fork():
        os.write(fds[2], b"%d\n" % pid)
        return
    for one in sockets:
        one.close()
    os.setsid()
    waiting, log, _ = fds
    for fd, target in ((waiting, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    for fd in fds:
        os.close(fd)
    _take_signals_as_an_interpreter_does()
    starter, (program, *arguments), cwd, env, mask = json.loads(request.decode(errors="surrogateescape"))
    os.umask(mask)
    with suppress(FileNotFoundError):  # elsewhere than on Linux
        _join_network(f"/proc/{starter}/ns/net")
    if not os.read(0, 1):  # as the shell that waits there: its parent was killed
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _become(importlib.import_module(DAEMONS[program]).main, [program, *arguments], cwd, env)


def _carry_out(request: bytes, fds: Sequence[int]) -> NoReturn:
    out, err, answer = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        for fd in fds:
            os.close(fd)
        from coordination.cli import main

        network, *how = json.loads(request.decode(errors="surrogateescape"))
        if network:
            _join_network(f"/run/netns/{network}")
        _become(lambda _: main(), *how)
    os.write(answer, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(main: Callable[..., Any], command: Sequence[str], cwd: str, env: Mapping[str, str]) -> NoReturn:
    os.environ.clear()
    os.environ.update(env)
    code: Any = 1
    try:
        os.chdir(cwd)
        sys.argv = [*command]
        code = main(sys.argv[1:])
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
