"""The programs of agents by their kinds."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.models import AgentKind
from workers.agents.claude import Claude
from workers.agents.codex import Codex
from workers.agents.command import CommandProgram
from workers.agents.copilot import Copilot
from workers.agents.gemini import Gemini
from workers.agents.opencode import OpenCode
from workers.agents.program import AgentProgram

PROGRAMS: Mapping[AgentKind, AgentProgram] = {
    AgentKind.CLAUDE: Claude(),
    AgentKind.CODEX: Codex(),
    AgentKind.GEMINI: Gemini(),
    AgentKind.OPENCODE: OpenCode(),
    AgentKind.COPILOT: Copilot(),
    AgentKind.COMMAND: CommandProgram(),
}
