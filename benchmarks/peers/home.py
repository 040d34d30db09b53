"""Where a peer is installed: in this environment, if extra `bench` is; else in one of its own in the
temporary folder.

Of its own, since Prefect wants an older `websockets` than extra `web` does; and since what one peer brings is
no affair of another. It is kept: only the first time takes long.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 600


class NotInstalled(Exception):
    """Its words say why."""


def requirements(packages: Sequence[str]) -> list[str]:
    """As extra `bench` has them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.compile(r"[\w-]+")
    return [line for line in extras["bench"] if named.match(line)[0] in packages]  # type: ignore[index]


def interpreter(packages: Sequence[str]) -> str:
    """A Python that has the packages. Raises NotInstalled."""
    if all(importlib.util.find_spec(package) for package in packages):
        return sys.executable
    wanted = requirements(packages)
    mark = sha256(f"{sys.version}{wanted}".encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir()) / "coord-bench-peers" / f"{packages[0]}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
        (folder / "installed").touch()
    return str(python)


def _call(words: list[str]) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"not installed within {LIMIT_S} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no word").splitlines()[-1]
        raise NotInstalled(f"does not install: {last}") from error
