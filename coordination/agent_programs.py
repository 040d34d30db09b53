"""Facts about the programs of agents: their names, logins, files and tested versions. Adapters, sandboxes and
`coord doctor` read them here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coordination.models import AgentKind

LONGEST_LINE = 4096
"""Bytes of the first line of a script."""
MOST_LINKS = 40
"""As many as Linux follows."""
SHARED = frozenset({"/tmp", "/var/tmp", "/dev/shm", "/run"})  # noqa: S108
"""Folders of all users, which no sandbox shows because a program lies there."""


@dataclass(frozen=True, kw_only=True)
class ProgramFacts:
    """The facts that all agents of a kind share. Files are those of the home folder."""

    name: str
    """The program's name in PATH."""
    login: tuple[str, ...]
    """Variables, each of which logs it in."""
    login_files: tuple[str, ...]
    """Files with the login of the person who uses this account."""
    copied: tuple[str, ...]
    """Its login and settings: a todo in a sandbox gets a copy, and cannot change those of the user."""
    shown: tuple[str, ...] = ()
    """The program itself, to be read."""
    tested: str = ""
    """The range of versions that was tested; empty: none."""
    tells_cost: bool = False
    """True if it tells the cost of a round. Others need `prices`."""


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


PROGRAM_FACTS: Mapping[AgentKind, ProgramFacts] = {
    AgentKind.CLAUDE: ProgramFacts(
        name="claude",
        login=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        login_files=(".claude/.credentials.json",),
        copied=(
            ".claude.json",
            *_in(
                ".claude", ".credentials.json", "settings.json", "settings.local.json", "CLAUDE.md", "agents",
                "commands", "hooks", "output-styles", "plugins", "rules", "skills",
            ),
        ),
        shown=(".local/share/claude",),
        tested=">=2.1,<3",
        tells_cost=True,
    ),
    AgentKind.CODEX: ProgramFacts(
        name="codex",
        login=("OPENAI_API_KEY", "CODEX_API_KEY"),
        login_files=(".codex/auth.json",),
        copied=_in(
            ".codex", "auth.json", "config.toml", "AGENTS.md", "instructions.md", "prompts", "skills", "rules"
        ),
        tested=">=0.169,<1",
    ),
    AgentKind.GEMINI: ProgramFacts(
        name="gemini",
        login=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        login_files=(".gemini/oauth_creds.json",),
        copied=_in(
            ".gemini", "oauth_creds.json", "google_accounts.json", "settings.json", "installation_id",
            "GEMINI.md", ".env", "commands", "extensions",
        ),
        tested=">=0.61,<1",
    ),
    AgentKind.OPENCODE: ProgramFacts(
        name="opencode",
        login=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"),
        login_files=(".local/share/opencode/auth.json",),
        copied=(".config/opencode", ".local/share/opencode/auth.json"),
        shown=(".opencode/bin", ".local/share/opencode/bin"),
        tested=">=1.18,<2",
    ),
    AgentKind.COPILOT: ProgramFacts(
        name="copilot",
        login=("COPILOT_GITHUB_TOKEN",),
        login_files=(".copilot/config.json",),
        copied=_in(".copilot", "config.json", "mcp-config.json"),
        tested=">=1.0,<2",
    ),
}  # fmt: skip
"""A `command` has none: it may be any program."""
BY_NAME: Mapping[str, ProgramFacts] = {facts.name: facts for facts in PROGRAM_FACTS.values()}
LOGIN_VARIABLES = tuple(sorted({name for facts in PROGRAM_FACTS.values() for name in facts.login}))


def package_folders(program: Path) -> Iterator[Path]:
    """Yield the folders of the package to which a link leads: all packages of npm that are installed with it,
    since some need others; the environment of a Python script, with its interpreter.
    """
    real = Path(os.path.realpath(program))  # resolve() raises for a loop of links
    for place in (*_links(program), real):
        modules = [folder for folder in place.parents if folder.name == "node_modules"]
        package = modules[-1] if modules else place.parent
        yield place if str(package) in SHARED else package
    script = _interpreter(real)
    for bin_folder in (folder.parent for folder in (real, script) if folder is not None):
        settings = bin_folder.parent / "pyvenv.cfg"
        with suppress(OSError, UnicodeDecodeError):
            lines = dict(line.partition("=")[::2] for line in settings.read_text().splitlines())
            yield settings.parent
            if base := lines.get("home ", lines.get("home", "")).strip():
                yield Path(os.path.realpath(base)).parent


def _links(program: Path) -> Iterator[Path]:
    """Yield where a program leads, link by link, as a sandbox follows them: it shows the folder of a program
    at its path, so that `..` in a link leads to the folder above that path.
    """
    for _ in range(MOST_LINKS):
        try:
            program = Path(os.path.normpath(program.parent / program.readlink()))
        except OSError:
            return
        yield program


def _interpreter(script: Path) -> Path | None:
    """Return the interpreter that the first line of a script names by its path; None if it names none."""
    try:
        with script.open("rb") as file:
            first = file.readline(LONGEST_LINE)
    except OSError:
        return None
    words = first.removeprefix(b"#!").split() if first.startswith(b"#!") else []
    return Path(os.fsdecode(words[0])) if words and words[0].startswith(b"/") else None
