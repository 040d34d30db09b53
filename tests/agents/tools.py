"""Programs of agents that `make agent-tools` installs: None where it has not."""

from __future__ import annotations

import shutil
from pathlib import Path

from coordination.agent_programs import PROGRAM_FACTS

FOLDER = Path(__file__).parents[2] / "build/agent-tools/node_modules/.bin"
INSTALLED = {kind: shutil.which(facts.name, path=str(FOLDER)) for kind, facts in PROGRAM_FACTS.items()}
