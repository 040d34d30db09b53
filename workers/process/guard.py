"""The guard: run one command, and leave none of its processes behind.

The worker starts one guard per command as a program of its own (`python -I -S`): it must be up in a few
milliseconds, and share nothing with the worker that it outlives. So it uses the standard library only,
imports little, and reads /proc itself.

States::

    running ──the command ends──► sweeping (TERM to the rest) ──all gone──► gone (the guard ends)
       ├──────T, or timeout─────► stopping (TERM to all) ───────all gone──► gone
       └──K, or worker is dead──► killing (KILL at once) ───────all gone──► gone

Sweeping and stopping send KILL, again and again, once the grace is over.

Invariants

1. The guard ends only when no process of the command is alive (but for those it has no right to kill: it
   reports them).
2. It holds the worktree's flock (`hold`) until then, and the command never does: the holder of that lock is
   alone.
3. The command outlives neither its worker nor its guard.

Failures

* The worker dies, by SIGKILL too: the kernel closes its end of `line`, the guard reads that, and kills.
* A child leaves the process group, by setsid or a double fork: on Linux the guard is a child subreaper, so a
  process that loses its parent becomes a child of the guard and is found below it in /proc. On macOS only the
  process group is known.
* The guard itself is killed: on Linux the kernel kills the command (PDEATHSIG). Processes that the command
  started stay, and carry the attempt's mark; the worker sees `line` close without `gone` and cleans up
  (`orphans.py`). If the worker is dead too, the next attempt does, before it enters the worktree.
* The guard itself is stopped or hangs: the worker kills it some seconds after its time (`child.py`).
* Ctrl-C and TERM at the worker's terminal: the guard is in a session of its own and ignores both; `line`
  alone counts.
* The command is in a sandbox (`limits` are given): its leader is bubblewrap, which forwards no signal, and
  whose end ends all processes of the sandbox. So TERM goes to the processes inside only, and KILL to all.
* Its processes use more memory together than `limits` allow, or are too many: KILL at once. This is checked
  every COUNT_EVERY_S; the kernel limits the memory of a single process (RLIMIT_DATA).
* The command cannot be started: `refused`, with an exit code in sh's manner.

`line` is a socket pair of which each side holds one end. To the guard it carries one-byte commands: T stop, K
kill. To the worker, lines of text: `started PID`, `refused CODE MESSAGE`, `ended REASON WAITSTATUS`, `kills`
(again and again while it does), `over REASON FOUND`, `left REASON PID…`, `gone`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from coordination.sandbox_limits import SandboxLimits
else:
    # the same without its enums, which are a third of the guard's start-up (3.5 of 12 ms)
    import _signal as signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
RLIMIT_LOCKS = 10
"""A limit that Linux ignores: the mark of an attempt's processes (`orphans.py`)."""
NOT_EXECUTABLE, NOT_FOUND = 126, 127
LONGEST_PAUSE_S = 3600.0
"""poll() counts milliseconds in an int: 25 days would overflow it."""
SWEEP_PAUSES_S = (0.02, 0.5)
"""The first and the longest pause between two looks for new forks while the guard kills. A process in an
uninterruptible read may take minutes to die.
"""
COUNT_EVERY_S = 0.2
"""How often memory and processes of a sandbox are counted, which takes 0.3 ms."""


class Refused(Exception):
    """The command could not be started."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class Guard:
    def __init__(
        self,
        line: int,
        mark: int,
        timeout_s: float,
        grace_s: float,
        limits: SandboxLimits | None,
        terms: int = 1,
    ) -> None:
        self.line = line
        self.limits = limits
        self.mark = mark
        self.worker_is_alive = True
        self.grace_s = grace_s
        self.timeout_at = time.monotonic() + timeout_s
        self.terms = terms
        self.kill_at: float | None = None
        self.again_at: float | None = None
        """When TERM is sent a second time; None: not."""
        self.sweep_pause_s = SWEEP_PAUSES_S[0]
        self.reason = "exited"
        self.leader = 0
        self.ended = False
        self.unkillable: set[int] = set()
        self.is_subreaper = prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.wake = wake_on_child()

    def run(self, argv: list[str], cwd: str, env: dict[bytes, bytes]) -> None:
        if self._worker_is_dead():
            return
        try:
            self.leader = spawn(argv, cwd, env, self.mark, self.limits)
        except Refused as refused:
            self._report(f"refused {refused.code} {refused}")
        else:
            self._report(f"started {self.leader}")
            close_output()
            self._watch()
        self._report("gone")

    def _watch(self) -> None:
        while self._reap() or self._group_is_alive():
            if self.ended:
                self._terminate()
            now = time.monotonic()
            if self.kill_at is None and now >= self.timeout_at:
                self.reason = "timeout"
                self._terminate()
            self._enforce_limits(now)
            if self.again_at is not None and now >= self.again_at:
                self.again_at = None
                self._signal_all(signal.SIGTERM)
            if self.kill_at is not None and now >= self.kill_at:
                self._signal_all(signal.SIGKILL)
                self._report("kills")
                if self._only_unkillable_left():
                    self._report(f"left {self.reason} {' '.join(map(str, self.unkillable))}")
                    return
            self._listen(self._pause_s(now))

    def _enforce_limits(self, now: float) -> None:
        if self.limits is None or self.kill_at is not None or self.ended:
            return
        if exceeded := self.limits.exceeded(self.leader, descendants):
            self.reason, found = exceeded
            self.kill_at = now
            self._report(f"over {self.reason} {found}")

    def _pause_s(self, now: float) -> float:
        if self.kill_at is None:
            most = LONGEST_PAUSE_S if self.limits is None else COUNT_EVERY_S
            return min(max(0.0, self.timeout_at - now), most)
        until_kill = (self.again_at or self.kill_at) - now
        orphans_end_unseen = self.ended and not self.is_subreaper
        if until_kill > 0 and not orphans_end_unseen:
            return min(until_kill, LONGEST_PAUSE_S)
        self.sweep_pause_s = min(self.sweep_pause_s * 2, SWEEP_PAUSES_S[1])
        return self.sweep_pause_s

    def _listen(self, pause_s: float) -> None:
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        if self.worker_is_alive:
            poll.register(self.line, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(int(pause_s * 1000) + 1)]
        if self.wake in ready:
            os.read(self.wake, 4096)
        if self.line in ready:
            self._handle(self._read_command())

    def _read_command(self) -> bytes:
        try:
            return os.read(self.line, 1)
        except ConnectionError:  # it died before it read all our lines
            return b""

    def _handle(self, command: bytes) -> None:
        self.worker_is_alive = bool(command)
        if self.kill_at is None:
            self.reason = "stopped"
        if command == b"T":
            self._terminate()
        else:
            self.kill_at = time.monotonic()

    def _terminate(self) -> None:
        if self.kill_at is None:
            now = time.monotonic()
            self.kill_at = now + self.grace_s
            self.again_at = now + self.grace_s / 2 if self.terms > 1 else None
            self._signal_all(signal.SIGTERM)

    def _reap(self) -> bool:
        """Reap ended children; return whether one is left. Without one, a subreaper has no process left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.leader:
                self._leader_ended(status)

    def _leader_ended(self, status: int) -> None:
        self.ended = True
        self._report(f"ended {self.reason} {status}")

    def _group_is_alive(self) -> bool:
        return not self.is_subreaper and signal_group(self.leader, 0)

    def _signal_all(self, number: int) -> None:
        # Once the command is reaped, its pid could be another process's.
        spares = self.limits is not None and number != signal.SIGKILL
        whole_group = not (self.ended and self.is_subreaper) and not spares
        if whole_group:
            signal_group(self.leader, number)
        for pid, group in self._processes().items():
            outside = group != self.leader or not whole_group
            if outside and not (spares and pid == self.leader) and not may_signal(pid, number):
                self.unkillable.add(pid)

    def _only_unkillable_left(self) -> bool:
        processes = self._processes()
        return bool(processes) and self.unkillable.issuperset(processes)

    def _processes(self) -> dict[int, int]:
        return descendants(os.getpid()) if self.is_subreaper else {}

    def _worker_is_dead(self) -> bool:
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        return bool(poll.poll(0))  # it sends nothing before `started`: only the end of `line` is readable

    def _report(self, line: str) -> None:
        try:  # noqa: SIM105 (contextlib costs 4 ms)
            os.write(self.line, line.replace("\n", " ").encode(errors="surrogateescape") + b"\n")
        except ConnectionError:
            pass  # the worker is dead; the rest to do is the same


def prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)


def wake_on_child() -> int:
    """Return a descriptor that becomes readable when a child ends; ignore signals of a terminal or group."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    return reader


def spawn(argv: list[str], cwd: str, env: dict[bytes, bytes], mark: int, limits: SandboxLimits | None) -> int:
    """Start the command as the leader of a session of its own; its pid is also its process group."""
    guard = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        exec_command(argv, cwd, env, mark, limits, guard, writer)
    os.close(writer)
    refusal = os.read(reader, 4096)  # nothing, if exec succeeded: the pipe is close-on-exec
    os.close(reader)
    if not refusal:
        return pid
    os.waitpid(pid, 0)
    code, _, message = refusal.decode(errors="surrogateescape").partition(" ")
    raise Refused(int(code), message)


def exec_command(
    argv: list[str],
    cwd: str,
    env: dict[bytes, bytes],
    mark: int,
    limits: SandboxLimits | None,
    guard: int,
    trouble: int,
) -> None:
    """Turn the fork into the command. Never returns."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the kernel knew of PDEATHSIG
            os._exit(NOT_EXECUTABLE)
        for number in signal.valid_signals():
            if signal.getsignal(number) == signal.SIG_IGN:  # exec would hand that on
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if mark:
            resource.setrlimit(RLIMIT_LOCKS, (mark, resource.getrlimit(RLIMIT_LOCKS)[1]))
        if limits and limits.memory:
            resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
        enter(cwd)
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except OSError as error:
        refusal = refusal_of(argv[0], error)
        os.write(trouble, f"{refusal.code} {refusal}".encode(errors="surrogateescape"))
    except Refused as refused:
        os.write(trouble, f"{refused.code} {refused}".encode(errors="surrogateescape"))
    finally:
        os._exit(NOT_EXECUTABLE)


def enter(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except OSError as error:
        message = f"cannot enter {cwd}: {error.strerror}; restore that folder, or let the todo run again"
        raise Refused(NOT_EXECUTABLE, message) from error


def refusal_of(program: str, error: OSError) -> Refused:
    if isinstance(error, FileNotFoundError):
        return Refused(
            NOT_FOUND, f"{program}: not found (or the interpreter in its first line is not); check PATH"
        )
    if error.errno == 8:  # ENOEXEC
        return Refused(NOT_EXECUTABLE, f"{program}: not a program; begin it with a line such as #!/bin/sh")
    return Refused(NOT_EXECUTABLE, f"{program}: {error.strerror}; check its mode and its path")


def close_output() -> None:
    """Close the guard's output: the worker sees its end when the command has closed it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)


def may_signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # ended by itself
    except PermissionError:
        return False  # it changed its user: sudo, a setuid program
    return True


def signal_group(group: int, number: int) -> bool:
    """Signal a group; return whether a process of it is alive. (macOS signals no group of zombies.)"""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def descendants(root: int) -> dict[int, int]:
    """Return every living process below `root`, with its process group."""
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (pathlib costs 6 ms)
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                state, parent, group = stat.read().rpartition(b") ")[2].split()[:3]
        except OSError:
            continue  # ended while we looked
        if state not in (b"Z", b"X"):
            children.setdefault(int(parent), []).append((int(name), int(group)))
    found: dict[int, int] = {}
    below = [root]
    while below:
        for child, group_of_child in children.get(below.pop(), ()):
            found[child] = group_of_child
            below.append(child)
    return found


def limits_of(text: str) -> SandboxLimits | None:
    """Return the limits of a sandbox; None without one, which then costs no import."""
    if text == "-":
        return None
    if not TYPE_CHECKING:
        from sandbox_limits import SandboxLimits  # its folder is in the path, packages are not

    return SandboxLimits(*map(int, text.split(":")))


def main(args: list[str]) -> None:
    line, hold, mark, timeout_s, grace_s, limited, terms, locale, cwd, *argv = args
    env = dict(os.environb)
    if locale == "C":
        # Python sets it for itself in a C locale (PEP 538): it is not the command's.
        env.pop(b"LC_CTYPE", None)
    for fd in (line, hold):
        if fd != "-":
            os.set_inheritable(int(fd), False)
    figures = (int(line), int(mark), float(timeout_s), float(grace_s))
    Guard(*figures, limits_of(limited), int(terms)).run(argv, cwd, env)
    os._exit(0)  # skips Python's own clean-up: 1 ms
