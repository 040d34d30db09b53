"""A plain installation works: only servers and their client need the libraries of the extras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("fastmcp", "jinja2", "keyring", "markupsafe", "starlette", "uvicorn", "websockets")
NEED_EXTRAS = (
    "coordination.client", "coordination.dashboard", "coordination.gateway", "coordination.mcp",
    "coordination.operations.http_limits",
)  # fmt: skip
IMPORT_ALL = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for module in sys.stdin.read().split():
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(module, error.name)
"""


def test_modules_import_without_the_extras() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("coordination", "workers")
        for path in (ROOT / package).rglob("*.py")
        if "demo/packages" not in str(path) and path.name != "__main__.py"
    ]
    command = [sys.executable, "-c", f"EXTRAS = {EXTRAS!r}\n{IMPORT_ALL}"]
    refused = subprocess.run(
        command, input="\n".join(modules), capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()

    assert [line for line in refused if not line.startswith(NEED_EXTRAS)] == []
