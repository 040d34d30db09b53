"""The process of which commands, workers and supervisors of tests are forks (fork_client.py)."""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import inspect
import marshal
import os
import select
import signal
import socket
import sys
import termios
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from coordination.operation_index import INDEX
from tests.fork_client import LONGEST_REQUEST, line_of

CLONE_NEWNET = 0x40000000
MADV_COLLAPSE, HUGE_PAGE = 25, 2 << 20
DAEMONS = {
    "workers": "workers.worker_process",
    "coordination.operations.supervisor": "coordination.operations.supervisor",
    "coordination.services.supervisor": "coordination.services.supervisor",
    "coordination.operations.flower_app": "coordination.operations.flower_app",
}
"""Programs that `python -m` starts → module with its `main`."""
SELDOM = "coordination.operations.flower_app"
"""Imported by the fork that needs it: it takes longer than all others."""
IMPORTED_LATE = (
    "billiard.pool", "celery.app.control", "celery.app.events", "celery.app.log", "celery.events.receiver",
    "celery.fixups.django", "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer.delayed_delivery", "celery.worker.strategy", "coordination.api.authority",
    "coordination.api.coord", "coordination.api.events", "coordination.api.landing",
    "coordination.api.coord", "coordination.api.runs", "coordination.breakers.manager",
    "coordination.charts.graph_picture", "coordination.cli.app", "coordination.forges.connect",
    "coordination.operations.quick_queries", "coordination.runs.views.live",
    "coordination.tracker.completion", "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.serialization", "httpx2", "kombu.transport.memory",
    "workers.celery_worker",    "workers.file_services",
)  # fmt: skip
"""Modules that most commands or workers import while they run: 0.06 s of the 0.26 s of a worker, and 0.2 s
of a command that asks a forge.
"""


def serve(requests: socket.socket, callers: socket.socket, joining: socket.socket, shared: bool) -> None:
    """Serve until `requests` is closed; `shared`: with all imports of any test, as each is needed by one."""
    _import_all()
    if shared:
        _declare_tools()
    spawns, ours = socket.socketpair(type=socket.SOCK_SEQPACKET)
    _start_daemons_through(ours)
    _become_workers_without_exec(ours)
    ended, signals = socket.socketpair()
    signals.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
    sockets = [requests, spawns, callers, joining, ended, signals]
    answers: dict[int, int] = {}
    """Process → where its exit code is awaited."""
    while True:
        asked = select.select([one for one in sockets if one is not signals], [], [])[0][0]
        if asked is ended:
            ended.recv(4096)
            _tell_exits(answers)
            continue
        if asked is joining:
            sockets.append(joining.accept()[0])
            continue
        request, fds = _receive(asked, from_a_shell=asked is callers)
        if request:
            _begin(request, fds, sockets, answers)
        elif asked is requests:
            return
        elif asked is not callers:
            sockets.remove(asked)
            asked.close()
        for fd in fds:
            os.close(fd)


def _receive(asked: socket.socket, from_a_shell: bool) -> tuple[bytes, list[int]]:
    """Return a request and its files: standard output, standard error, where it is answered, perhaps more."""
    calling = asked.accept()[0] if from_a_shell else asked
    request, fds, _, _ = socket.recv_fds(calling, LONGEST_REQUEST, 4)
    if from_a_shell:
        fds.insert(2, calling.detach())
    return request, fds


def _begin(
    request: bytes, fds: Sequence[int], sockets: Sequence[socket.socket], answers: dict[int, int]
) -> None:
    first, _, command, *_ = marshal.loads(request)
    if isinstance(first, int):
        _begin_daemon(request, fds, sockets, answers)
        return
    if "mcp" in command[:2]:
        _declare_tools()
    if not (pid := os.fork()):
        _forget(sockets, answers)
        _carry_out(request, fds)
    with suppress(BrokenPipeError):
        os.write(fds[2], b"%d\n" % pid)
    answers[pid] = os.dup(fds[2])


def _tell_exits(answers: dict[int, int]) -> None:
    with suppress(ChildProcessError):  # there is none left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if (answer := answers.pop(ended[0], -1)) >= 0:
                with suppress(BrokenPipeError):  # nobody waits for it any more
                    os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
                os.close(answer)


def _forget(sockets: Sequence[socket.socket], answers: Mapping[int, int]) -> None:
    """Leave to the fork server, in a fork of it, all that is its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in sockets:
        one.close()
    for answer in answers.values():
        os.close(answer)


def _import_all() -> None:
    from coordination.cli.command_table import COMMANDS
    from coordination.cli.groups import entries
    from coordination.cli.operation_command import DRAWN, HAND_MADE

    modules = {entry.module for entry in entries(COMMANDS).values() if entry.module}
    modules |= {place.partition(":")[0] for place in (*DRAWN.values(), *HAND_MADE.values())}
    for module in sorted(modules):
        importlib.import_module(f"coordination.cli.{module}")
    for row in INDEX.values():
        importlib.import_module(row.part.partition(":")[0])
    for name in {*IMPORTED_LATE, *DAEMONS.values()} - {SELDOM}:
        importlib.import_module(name)
    _look_up_once()
    gc.freeze()
    _use_huge_pages()


@cache
def _declare_tools() -> None:
    """Do once, for all forks from here on, what takes a server for agents 3 s."""
    declared = importlib.import_module("coordination.mcp.declaration").declared
    for module in importlib.import_module("coordination.mcp.server").MODULES:
        list(declared(module, None))
    gc.freeze()


def _look_up_once() -> None:
    """Fill caches that each worker would fill: from all Lua files, and from all installed packages."""
    from celery.utils.imports import load_extension_class_names

    from coordination.backend.library import digest

    digest()
    load_extension_class_names("celery.result_backends")


def _use_huge_pages() -> None:
    """Put the objects on pages of 2 MB where Linux can: a fork then copies 40 entries of page tables instead
    of 20,000, which takes 0.005 s less of the 0.012 s of a fork.
    """
    maps, libc = Path("/proc/self/maps"), ctypes.CDLL(None)
    for line in maps.read_text().splitlines() if maps.exists() else ():
        area, mode, _, _, inode, *name = line.split(maxsplit=5)
        if mode == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            begin, end = (int(address, 16) for address in area.split("-"))
            for address in range(-(-begin // HUGE_PAGE) * HUGE_PAGE, end - HUGE_PAGE + 1, HUGE_PAGE):
                libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE_PAGE), MADV_COLLAPSE)


def _start_daemons_through(server: socket.socket) -> None:
    """Let every fork of this process get the workers and supervisors that it starts from the fork server."""
    from coordination.backend.daemon import Daemon

    Daemon._spawn = spawner(server)  # type: ignore[method-assign]


def spawner(server: socket.socket) -> Callable[..., tuple[int, int]]:
    """Return a `Daemon._spawn` that gets workers and supervisors from the fork server."""
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
        request = marshal.dumps([os.getpid(), command[3:], cwd, dict(env), mask])
        with answers, theirs:
            socket.send_fds(server, [request], [waiting, log, theirs.fileno()])
            theirs.close()
            pid = int(line_of(answers))
        os.close(waiting)
        os.close(log)
        return pid, gate

    return by_fork


def _join_network(path: str) -> None:
    with Path(path).open() as network:
        if os.fstat(network.fileno()).st_ino == Path("/proc/self/ns/net").stat().st_ino:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")


def _become_workers_without_exec(server: socket.socket) -> None:
    """Let `coord worker` go on in its process, where the imports are done, as a new program. It keeps the
    socket to the fork server, which starts its supervisors.
    """
    execve = os.execve

    def go_on(path: str, command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
        if [*command[:4]] != [sys.executable, "-P", "-m", "workers"]:
            execve(path, command, env)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in range(3, 256):
            with suppress(OSError):  # not open
                # kept occupied: objects of the former program may close it
                if fd != server.fileno() and not os.get_inheritable(fd):
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


def _begin_daemon(
    request: bytes, fds: Sequence[int], sockets: Sequence[socket.socket], answers: Mapping[int, int]
) -> None:
    if pid := os.fork():
        os.write(fds[2], b"%d\n" % pid)
        return
    _forget(sockets, answers)
    os.setsid()
    waiting, log, _ = fds
    for fd, target in ((waiting, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    for fd in fds:
        os.close(fd)
    _take_signals_as_an_interpreter_does()
    starter, (program, *arguments), cwd, env, mask = marshal.loads(request)
    os.umask(mask)
    with suppress(FileNotFoundError):  # elsewhere than on Linux
        _join_network(f"/proc/{starter}/ns/net")
    if not os.read(0, 1):  # as the shell that waits there: its parent was killed
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if program == "workers" and (failpoints := env.get("COORD_FAILPOINTS")):
        importlib.import_module("tests.chaos.failpoints.hooks").switch_on(failpoints)
    _become(_main_of(program), [program, *arguments], cwd, env)


def _main_of(program: str) -> Callable[..., Any]:
    main = importlib.import_module(DAEMONS[program]).main
    return main if inspect.signature(main).parameters else lambda _: main()


def _carry_out(request: bytes, fds: Sequence[int]) -> NoReturn:
    out, err, _answer, *given = fds
    for fd, target in ((out, 1), (err, 2), *((fd, 0) for fd in given)):
        os.dup2(fd, target)
    for fd in fds:
        os.close(fd)
    _take_signals_as_an_interpreter_does()  # SIGINT is ignored where the tests run in the background
    network, on_terminal, command, cwd, env = marshal.loads(request)
    if on_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if network:
        _join_network(f"/run/netns/{network}")
    if command[:2] == [sys.executable, "-c"]:
        _become(_execute, command[1:], cwd, env)
    if command[:3] == [sys.executable, "-m", "workers"]:
        _become(_main_of("workers"), command[2:], cwd, env)
    from coordination.cli import main

    _become(lambda _: main(), command, cwd, env)


def _execute(command: Sequence[str]) -> int:
    sys.path[0] = ""
    del sys.argv[1]
    sys.modules["__main__"] = program = types.ModuleType("__main__")
    exec(compile(command[0], "<string>", "exec"), vars(program))
    return 0


def _become(main: Callable[..., Any], command: Sequence[str], cwd: str, env: Mapping[str, str]) -> NoReturn:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
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
    serve(*(socket.socket(fileno=int(fd)) for fd in sys.argv[1:4]), shared="shared" in sys.argv)
