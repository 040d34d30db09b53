"""The version in Cargo.toml, a package's own or its workspace's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coordination.dependencies.manifests.reading import inside, read_toml, text_inside

MANIFEST = "Cargo.toml"
OF_WORKSPACE = ("workspace", "package", "version")


def version(folder: Path) -> str | None:
    manifest = read_toml(folder / MANIFEST)
    if inside(manifest, "package", "version", "workspace") is True:
        return text_inside(_workspace(folder, manifest), *OF_WORKSPACE)
    return text_inside(manifest, "package", "version") or text_inside(manifest, *OF_WORKSPACE)


def _workspace(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest that declares the workspace: this one, the one it names, or the nearest above, as Cargo looks for it."""
    if "workspace" in manifest:
        return manifest
    if named := text_inside(manifest, "package", "workspace"):
        return read_toml(folder / named / MANIFEST)
    above = (read_toml(parent / MANIFEST) for parent in folder.absolute().parents)
    return next((found for found in above if "workspace" in found), {})
