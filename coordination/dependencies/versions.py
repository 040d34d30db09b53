"""Versions of checkouts, from the manifest (pyproject.toml, package.json, Cargo.toml, setup.cfg) or a tag.

The first manifest with a version counts. If it leaves its version to git (setuptools-scm, hatch-vcs and the
like), or if no manifest has one, the tags decide. Versions that a manifest computes by running code cannot be
read.

Manifests are untrusted input: they may be no valid TOML, or have numbers in place of tables. Versions in
Python files are read without executing them. In pyproject.toml, the version is that of PEP 621 or Poetry, or
is at the place that is configured for the build backend; setup.cfg is read as setuptools does; in Cargo.toml
it is the package's or its workspace's.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version
from semantic_version import Version as Semantic

from coordination.dependencies.constraints import InvalidVersion, Rules, read_semver, rules_for
from coordination.errors import CoordinationError, NotFound
from coordination.git import ask_git


def read_text(path: Path) -> str | None:
    """Return the file's text, or None if it does not exist. Raises CoordinationError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise CoordinationError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise CoordinationError(f"{path} cannot be read: {error.strerror}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's data, {} if it does not exist. Raises CoordinationError with the line of a syntax
    error.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text or "")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CoordinationError(f"{path} is damaged: {error}") from error


def inside(data: Any, *names: str) -> Any:
    """Return the value at the nested names, or None."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def text_inside(data: Any, *names: str) -> str | None:
    """Return the text at the nested names without blanks around it; None for anything else."""
    value = inside(data, *names)
    return value.strip() or None if isinstance(value, str) else None


NAMES = ("__version__", "VERSION")
"""Variables of a Python file that hold the version."""


def pyproject_version(folder: Path) -> str | None:
    """Return the version; None if there is none or it is left to git tags. Raises CoordinationError."""
    data = read_toml(folder / "pyproject.toml")
    if written := text_inside(data, "project", "version"):
        return written
    if isinstance(dynamic := inside(data, "project", "dynamic"), list) and "version" in dynamic:
        return _dynamic(folder, data)
    from_tags = inside(data, "tool", "poetry-dynamic-versioning", "enable") is True
    return None if from_tags else text_inside(data, "tool", "poetry", "version")


def _dynamic(folder: Path, data: dict[str, Any]) -> str | None:
    tool = data.get("tool")
    if attribute := text_inside(tool, "setuptools", "dynamic", "version", "attr"):
        return version_of_attribute(folder, attribute)
    file = inside(tool, "setuptools", "dynamic", "version", "file")
    if isinstance(file, list) and file:
        file = file[0]
    if isinstance(file, str):
        return version_of_file(folder, file)
    for backend in ("hatch", "pdm"):
        if path := text_inside(tool, backend, "version", "path"):
            return assigned_text(folder / path, *NAMES)
    return (
        _of_module(folder, data)
        if text_inside(data, "build-system", "build-backend") == "flit_core.buildapi"
        else None
    )


def _of_module(folder: Path, data: dict[str, Any]) -> str | None:
    """Return the version that flit reads from the package."""
    name = text_inside(data, "tool", "flit", "module", "name") or text_inside(data, "project", "name") or ""
    return version_of_attribute(folder, f"{name.replace('-', '_')}.__version__")


def setup_cfg_version(folder: Path) -> str | None:
    path = folder / "setup.cfg"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(read_text(path) or "", str(path))
    except configparser.Error as error:
        raise CoordinationError(f"{path} is damaged: {' '.join(error.message.split())}") from error
    written = parser.get("metadata", "version", fallback="").strip()
    if written.startswith("attr:"):
        return version_of_attribute(folder, written.removeprefix("attr:"))
    if written.startswith("file:"):
        return version_of_file(folder, written.removeprefix("file:").split(",")[0].strip())
    return written or None


FOLDERS = ("", "src", "lib")
"""Folders that may hold packages in a checkout."""


def version_of_attribute(folder: Path, attribute: str) -> str:
    """Return the text of `package.module.__version__`, located as by setuptools. Raises CoordinationError if
    there is none.
    """
    module, _, name = attribute.strip().rpartition(".")
    parts = Path(*module.split("."))
    places = [
        place
        for top in FOLDERS
        for place in (folder / top / f"{parts}.py", folder / top / parts / "__init__.py")
    ]
    return next((found for place in places if (found := assigned_text(place, name))), None) or _raise_no_text(
        folder, attribute
    )


def version_of_file(folder: Path, name: str) -> str:
    """Return the content of a text file. Raises CoordinationError if it is missing or empty."""
    return (read_text(folder / name) or "").strip() or _raise_no_text(folder, name)


def assigned_text(path: Path, *names: str) -> str | None:
    """Return the text that is assigned to one of the names; None if the file does not exist
    or computes it.
    """
    text = read_text(path)
    try:
        tree = ast.parse(text or "")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise CoordinationError(f"{path} is damaged: {error}") from error
    return next((value for name, value in _assignments(tree) if name in names), None)


def _assignments(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for step in tree.body:
        targets = (
            step.targets
            if isinstance(step, ast.Assign)
            else [step.target]
            if isinstance(step, ast.AnnAssign)
            else []
        )
        value = getattr(step, "value", None)
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield from ((target.id, value.value) for target in targets if isinstance(target, ast.Name))


def _raise_no_text(folder: Path, where: str) -> str:
    raise CoordinationError(
        f"the version of {folder} is in {where}, which contains no plain text", "write it there as plain text"
    )


def npm_version(folder: Path) -> str | None:
    path = folder / "package.json"
    text = read_text(path)
    try:
        return text_inside(json.loads(text), "version") if text is not None else None
    except (json.JSONDecodeError, RecursionError) as error:
        raise CoordinationError(f"{path} is damaged: {error}") from error


MANIFEST = "Cargo.toml"
WORKSPACE_VERSION = ("workspace", "package", "version")


def cargo_version(folder: Path) -> str | None:
    manifest = read_toml(folder / MANIFEST)
    if inside(manifest, "package", "version", "workspace") is True:
        return text_inside(_workspace(folder, manifest), *WORKSPACE_VERSION)
    return text_inside(manifest, "package", "version") or text_inside(manifest, *WORKSPACE_VERSION)


def _workspace(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest that declares the workspace: this one, the one it names, or the nearest above, as
    Cargo does.
    """
    if "workspace" in manifest:
        return manifest
    if named := text_inside(manifest, "package", "workspace"):
        return read_toml(folder / named / MANIFEST)
    above = (read_toml(parent / MANIFEST) for parent in folder.absolute().parents)
    return next((found for found in above if "workspace" in found), {})


_VERSION = re.compile(r"\d+\.\d")
"""Version with at least two numbers: tags like `v3` are moved along, and `2026` may count something else."""


def newest_version_tag(folder: Path) -> str | None:
    """Return the tag with the highest version among those that HEAD contains; a later fix of 1.4 is not newer
    than 2.0.
    """
    tags = ask_git(folder, "tag", "--merged", "HEAD").split("\n")
    versions = {tag: order for tag in tags if (order := _order(without_prefix(tag, folder.name)))}
    return max(versions, key=versions.__getitem__, default=None)


def without_prefix(tag: str, name: str) -> str:
    """Return the version of a tag: `v1.2`, `release-1.2`, or in a shared repository `name-v1.2`, `name@1.2`,
    `name/1.2`.
    """
    return re.sub(rf"^(?:(?:release|version|{re.escape(name)})[-@/_])?[vV]?(?=\d)", "", tag)


def _order(text: str) -> tuple[Version, Semantic] | None:
    """Return a sort key with both orders; a version that only one can read is represented by its release in
    the other.
    """
    if not _VERSION.match(text):
        return None
    try:
        version = Version(text)
        return version, _semantic(text) or Semantic("0.0.0")
    except ValueError:
        semantic = _semantic(text)
        return (Version(f"{semantic.truncate()}.dev0"), semantic) if semantic else None


def _semantic(text: str) -> Semantic | None:
    try:
        return read_semver(text)
    except InvalidVersion:
        return None


Reader = Callable[[Path], str | None]
"""Function from a folder to its version; None if there is no manifest or version. Raises
CoordinationError.
"""

MANIFESTS: dict[str, tuple[Rules, Reader]] = {
    "pyproject.toml": (Rules.PYTHON, pyproject_version),
    "package.json": (Rules.NPM, npm_version),
    "Cargo.toml": (Rules.CARGO, cargo_version),
    "setup.cfg": (Rules.PYTHON, setup_cfg_version),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """The version of a checkout."""

    version: str
    source: str
    """Origin of the version: `pyproject.toml`, `tag v1.2.3`."""
    rules: Rules


def find_version(folder: Path) -> Found:
    """Return the version of a checkout. Raises NotFound with all places searched, CoordinationError for a
    damaged manifest.
    """
    for name, (rules, read) in MANIFESTS.items():
        if version := read(folder):
            return Found(version=version, source=name, rules=rules)
    if tag := newest_version_tag(folder):
        return Found(
            version=without_prefix(tag, folder.name), source=f"tag {tag}", rules=_rules_by_name(folder)
        )
    searched = ", ".join(MANIFESTS)
    raise NotFound(
        f"no version found in {folder}: none in {searched}, and no tag like v1.2.3 in the history of HEAD"
    )


def find_rules(folder: Path) -> Rules:
    """Return the rules by which the folder's version is judged, or would be if it had one."""
    try:
        found = find_version(folder)
    except CoordinationError:
        return _rules_by_name(folder)
    return rules_for(found.version, found.rules)


def _rules_by_name(folder: Path) -> Rules:
    return next((rules for name, (rules, _) in MANIFESTS.items() if (folder / name).is_file()), Rules.ANY)


def one_line(error: CoordinationError) -> str:
    """Return the error's message and hint on one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
