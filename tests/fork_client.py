"""Starts `coord`, and its workers and supervisors, as forks of a process that has imported them: a
command costs a tenth of a second instead of a second, a worker a third of a second instead of 1.2.

Commands and workers are the real ones, in a process, a folder and an environment of their own. So are the
lines of Python that a test or a document has for `python -c`. A shell finds both as the programs `coord` and
`python` in `ForkServer.programs`. The start of an interpreter is not tried here: tests of that begin the
installed script (`Testbed.begin`), or start workers from the test itself (`Local`).
"""

from __future__ import annotations

import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

LONGEST_REQUEST = 1 << 20
CALLERS, REQUESTS = "callers", "requests"
"""Sockets of the server: for the program of shells, and for processes that join it."""
SERVER = Path(__file__).with_name("fork_server.py")
READ_AT_START = ("LD_", "PYTHON", "LC_", "LANG", "FORCE_COLOR", "TERMINAL_WIDTH")
"""Variables that the interpreter or a library reads before a command of coord is called: a fork is too late
for them.
"""
PROGRAM = """\
#!{python} -IS
import _socket, marshal, os, sys
command, env = [{program!r}, *sys.argv[1:]], dict(os.environ)
forks = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
at_start = {{name: text for name, text in env.items() if name.startswith({prefixes!r})}}
if at_start != {at_start!r} or not ({has_fork}):
    os.execv({program!r}, command)
try:
    forks.connect({place!r})
except OSError:  # a sandbox hides it
    os.execv({program!r}, command)
fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (1, 2, 0))
request = marshal.dumps(["", False, command, os.getcwd(), env])
forks.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
said = b""
while said.count(b"\\n") < 2 and (more := forks.recv(64)):
    said += more
code = int(said.split()[1])
sys.exit(code if code >= 0 else 128 - code)
"""
"""A program of a shell: it has the command carried out by a fork, and ends with its code."""
PROGRAMS = {
    "coord": (Path(sys.executable).with_name("coord"), "True"),
    "python": (Path(sys.executable), "command[1:2] == ['-c'] or command[1:3] == ['-m', 'workers']"),
}
"""Name of a program in `ForkServer.programs` → the program in an interpreter of its own, and the commands
that a fork carries out.
"""


class ForkServer:
    """Asked by several threads at once. Starts at its first command; ended by `close`.

    Several processes of pytest use one server, as its imports take 3 s: the process that distributes the
    tests calls `share`, the others `join` that.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._folder: Path | None = None
        self._joined = False

    def share(self) -> Path:
        """Return the folder that other processes `join`. The server starts when one of them has a command."""
        with self._starting:
            if self._folder is None:
                starting = threading.Thread(target=self._start, args=self._listen(), daemon=True)
                starting.start()
            return self._folder

    def join(self, folder: Path) -> None:
        """Use the server that another process shares."""
        self._folder, self._joined = folder, True

    def run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float, network: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """As subprocess.run, with an empty standard input. `command`: the script of `coord` and its
        arguments, or `python -c TEXT`. `network`: the name of a network namespace.
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
        return self._begin(command, cwd, env, [stdout, stderr], network)

    def begin_on(self, terminal: int, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Fork:
        """Begin a command with a terminal of its own: in its foreground, so that keys are signals."""
        return self._begin(command, cwd, env, [terminal] * 3, on_terminal=True)

    def piped(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> PipedFork:
        """As subprocess.Popen with pipes and text; stderr is ours unless it is PIPE."""
        outs = os.pipe(), os.pipe()
        errors = os.pipe() if stderr == subprocess.PIPE else (-1, os.dup(2))
        (stdin, write), (read, stdout) = outs
        try:
            streams = [stdout, errors[1], stdin]
            fork = self._begin(command, cwd or Path.cwd(), os.environ if env is None else env, streams)
        finally:
            for fd in (stdin, stdout, errors[1]):
                os.close(fd)
        return PipedFork(fork, write, read, errors[0])

    def _begin(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        streams: Sequence[IO[bytes] | int],
        network: str = "",
        on_terminal: bool = False,
    ) -> Fork:
        answers, theirs = socket.socketpair()
        told = [network, on_terminal, list(map(str, command)), str(cwd), dict(env)]
        request = marshal.dumps(told)
        with theirs:
            out, err, *stdin = [file if isinstance(file, int) else file.fileno() for file in streams]
            socket.send_fds(self._connection(), [request], [out, err, theirs.fileno(), *stdin])
        return Fork(list(command), answers)

    def _connection(self) -> socket.socket:
        with self._starting:
            if self._requests is None and self._joined:
                self._requests = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._requests.connect(str(self._folder / REQUESTS))
                self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
            elif self._requests is None:
                self._start(*self._listen(), shared=False)
            return self._requests

    def _listen(self) -> tuple[socket.socket, socket.socket]:
        """Return the sockets for commands of shells, and for the processes that join."""
        self._folder = Path(tempfile.mkdtemp())
        listeners = []
        for name in (CALLERS, REQUESTS):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(str(self._folder / name))
            listener.listen(64)
            listeners.append(listener)
        return listeners[0], listeners[1]

    def _start(self, callers: socket.socket, joining: socket.socket, shared: bool = True) -> None:
        """Start the server; if it is shared, as soon as somebody asks for it."""
        self._requests, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_REQUEST)
        with theirs, callers, joining:
            if shared:
                select.select([callers, joining], [], [])
            fds = [theirs.fileno(), callers.fileno(), joining.fileno()]
            command = [sys.executable, SERVER, *map(str, fds), *(["shared"] if shared else [])]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds)

    def spawner(self) -> Callable[..., tuple[int, int]]:
        """Return a `Daemon._spawn` with which this process gets workers and supervisors as forks.

        Waits until the fork server has started: under load that takes as long as a daemon may take to answer.
        """
        from tests.fork_server import spawner  # which imports this module

        self.run([sys.executable, "-c", ""], cwd=Path.cwd(), env=os.environ, timeout=120)
        return spawner(self._connection())

    @property
    def programs(self) -> Path:
        """Return a folder for PATH, with a `coord` and a `python` that are forks."""
        self._connection()
        assert self._folder is not None
        for name, (program, has_fork) in PROGRAMS.items():
            if (path := self._folder / name).exists():
                continue
            text = PROGRAM.format(
                python=sys.executable,
                program=str(program),
                has_fork=has_fork,
                prefixes=READ_AT_START,
                at_start={name: text for name, text in os.environ.items() if name.startswith(READ_AT_START)},
                place=str(self._folder / CALLERS),
            )
            written = self._folder / f"{name}.{os.getpid()}"
            written.write_text(text)
            written.chmod(0o755)
            written.rename(path)  # other processes may write and execute it at the same time
        return self._folder

    def close(self) -> None:
        if self._folder is not None and not self._joined:
            shutil.rmtree(self._folder)
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            self._process.wait()


class Fork:
    """A command in a fork; as subprocess.Popen."""

    def __init__(self, command: Sequence[str], answers: socket.socket) -> None:
        self._command = command
        self._answers = answers
        self.pid = int(line_of(answers))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._command, timeout or 0)
            self.returncode = int(line_of(self._answers))
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


class PipedFork:
    """A fork with its standard streams as text; as subprocess.Popen."""

    def __init__(self, fork: Fork, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = fork.pid
        self.stdin, self.stdout = os.fdopen(stdin, "w", buffering=1), os.fdopen(stdout)
        self.stderr = os.fdopen(stderr) if stderr >= 0 else None
        self.poll, self.wait = fork.poll, fork.wait
        self.kill, self.terminate, self.send_signal = fork.kill, fork.terminate, fork.send_signal

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Not for more output on stderr than a pipe takes."""
        with suppress(BrokenPipeError):  # it was killed
            if text:
                self.stdin.write(text)
            self.stdin.close()
        out, err = self.stdout.read(), self.stderr.read() if self.stderr else ""
        self.wait(timeout)
        self.close()
        return out, err

    def close(self) -> None:
        for stream in filter(None, (self.stdin, self.stdout, self.stderr)):
            with suppress(BrokenPipeError):
                stream.close()


def line_of(answers: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := answers.recv(1)):
            raise ConnectionError("the fork server ended, or its child was killed")
        line += byte
    return line


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
