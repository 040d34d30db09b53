"""The version that a checkout has: real folders, real git."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from coordination.dependencies.constraints import Rules
from coordination.dependencies.versions import Found, find_version
from coordination.errors import CoordinationError, NotFound

Files = dict[str, str]
SETUPTOOLS = '[project]\nname = "lib"\ndynamic = ["version"]\n[tool.setuptools.dynamic]\n'
FROM_GIT = (
    '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\n[project]\nname = "lib"\ndynamic ='
    ' ["version"]\n'
)


def lay(folder: Path, files: Files) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def git(folder: Path, *words: str) -> None:
    identity = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgSign=false",
        "-c",
        "tag.gpgSign=false",
    )
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def tagged(folder: Path, *tags: str) -> Path:
    """Each tag on a commit of its own."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    for tag in tags:
        git(folder, "commit", "-q", "--allow-empty", "-m", tag)
        git(folder, "tag", tag)
    return folder


MANIFESTS: list[tuple[str, Files, str, str]] = [
    ("PEP 621", {"pyproject.toml": '[project]\nversion = "1.2.3"'}, "1.2.3", "pyproject.toml"),
    ("Poetry", {"pyproject.toml": '[tool.poetry]\nversion = "1.2.3"'}, "1.2.3", "pyproject.toml"),
    ("an attribute", {"pyproject.toml": SETUPTOOLS + 'version = {attr = "lib.__version__"}',
                      "src/lib/__init__.py": 'import nonesuch\n__version__ = "1.2.3"\n'}, "1.2.3",
                      "pyproject.toml"),
    ("an annotated one", {"pyproject.toml": SETUPTOOLS + 'version = {attr = "lib.about.VERSION"}',
                          "lib/about.py": 'VERSION: str = "1.2.3"\n'}, "1.2.3", "pyproject.toml"),
    ("a file", {"pyproject.toml": SETUPTOOLS + 'version = {file = ["VERSION"]}', "VERSION": "1.2.3\n"},
        "1.2.3", "pyproject.toml"),
    ("Hatch", {"pyproject.toml": '[project]\ndynamic = ["version"]\n'
                                 '[tool.hatch.version]\npath = "lib/about.py"',
               "lib/about.py": "__version__ = '1.2.3'\n"}, "1.2.3", "pyproject.toml"),
    ("Flit", {"pyproject.toml": '[build-system]\nbuild-backend = "flit_core.buildapi"\n'
                                '[project]\nname = "my-lib"\ndynamic = ["version"]',
              "my_lib.py": "__version__ = '1.2.3'\n"}, "1.2.3", "pyproject.toml"),
    ("npm", {"package.json": '{"name": "lib", "version": "1.2.3"}'}, "1.2.3", "package.json"),
    ("Cargo", {"Cargo.toml": '[package]\nversion = "1.2.3"'}, "1.2.3", "Cargo.toml"),
    ("a Cargo workspace", {"Cargo.toml": '[workspace.package]\nversion = "1.2.3"'}, "1.2.3", "Cargo.toml"),
    ("setup.cfg", {"setup.cfg": "[metadata]\nversion = 1.2.3\n"}, "1.2.3", "setup.cfg"),
    ("setup.cfg's attribute", {"setup.cfg": "[metadata]\nversion = attr: lib.__version__\n",
                               "lib/__init__.py": '__version__ = "1.2.3"\n'}, "1.2.3", "setup.cfg"),
    ("tools alone, then npm", {"pyproject.toml": "[tool.ruff]\n", "package.json": '{"version": "1.2.3"}'},
        "1.2.3", "package.json"),
    ("a byte order mark", {"package.json": '\ufeff{"version": "1.2.3"}'}, "1.2.3", "package.json"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "version", "source"), [m[1:] for m in MANIFESTS], ids=[m[0] for m in MANIFESTS]
)
def test_a_manifest_says_the_version(tmp_path: Path, files: Files, version: str, source: str):
    found = find_version(lay(tmp_path, files))

    assert (found.version, found.source) == (version, source)


def test_a_member_of_a_cargo_workspace_has_the_workspaces_version(tmp_path: Path):
    lay(tmp_path, {"Cargo.toml": '[workspace]\nmembers = ["a/b"]\n[workspace.package]\nversion = "1.2.3"'})
    member = lay(tmp_path / "a" / "b", {"Cargo.toml": "[package]\nversion.workspace = true"})

    assert find_version(member) == Found(version="1.2.3", source="Cargo.toml", rules=Rules.CARGO)


@pytest.mark.parametrize(
    "manifest", [FROM_GIT, '[project]\ndynamic = ["version"]\n[tool.hatch.version]\nsource = "vcs"']
)
def test_a_version_that_is_left_to_git_is_the_newest_tag_by_pep_440(tmp_path: Path, manifest: str):
    folder = lay(tagged(tmp_path / "lib", "v1.9.0", "v1.10.0", "v1.9.1"), {"pyproject.toml": manifest})

    assert find_version(folder) == Found(version="1.10.0", source="tag v1.10.0", rules=Rules.PYTHON)


@pytest.mark.parametrize(
    ("tags", "newest"),
    [
        (("1.0", "v2.0", "1.5"), "v2.0"),
        (("v2.0.0-rc.1", "v2.0.0", "v1.9.0"), "v2.0.0"),
        (("v2.0.0-next.1", "v2.0.0-next.2", "v1.0.0"), "v2.0.0-next.2"),
        (("v2.0.0-next.1", "v2.0.0"), "v2.0.0"),
        (("nightly", "v3", "v1.2.0", "2026"), "v1.2.0"),
        (("release-1.4", "release-1.3"), "release-1.4"),
        (("lib-v1.4.0", "other-v9.0.0", "lib@1.5.0"), "lib@1.5.0"),
    ],
)
def test_without_a_manifest_the_newest_tag_counts_by_the_order_of_versions(
    tmp_path: Path, tags: tuple[str, ...], newest: str
):
    found = find_version(tagged(tmp_path / "lib", *tags))

    assert found.source == f"tag {newest}"
    assert found.rules is Rules.ANY


def test_a_tag_that_is_not_in_what_is_checked_out_does_not_count(tmp_path: Path):
    folder = tagged(tmp_path / "lib", "v1.0.0")
    git(folder, "checkout", "-q", "-b", "future")
    git(folder, "commit", "-q", "--allow-empty", "-m", "later")
    git(folder, "tag", "v2.0.0")
    git(folder, "checkout", "-q", "main")

    assert find_version(folder).version == "1.0.0"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": '[project]\nversion = "1.2\n'}, "pyproject.toml is damaged: .*line 2"),
        ({"package.json": '{"name": "lib",\n"version"}'}, "package.json is damaged: .*line 2"),
        ({"Cargo.toml": "[package\n"}, "Cargo.toml is damaged: .*line 1"),
        ({"setup.cfg": "version = 1\n"}, "setup.cfg is damaged: .*line: 1"),
        ({"pyproject.toml": SETUPTOOLS + 'version = {attr = "lib.__version__"}'}, "is in lib.__version__"),
        ({"pyproject.toml": SETUPTOOLS + 'version = {file = "VERSION"}'}, "is in VERSION"),
    ],
)
def test_a_damaged_manifest_is_said_with_its_line(tmp_path: Path, files: Files, said: str):
    with pytest.raises(CoordinationError, match=said):
        find_version(lay(tmp_path, files))


@pytest.mark.parametrize(
    "data", [[], 7, {"version": 7}, {"version": None}, {"version": {"a": 1}}, {"version": ""}]
)
def test_strange_values_in_a_manifest_are_no_version(tmp_path: Path, data: object):
    with pytest.raises(
        NotFound, match=r"none in pyproject.toml, package.json, Cargo.toml, setup.cfg, and no tag"
    ):
        find_version(lay(tmp_path, {"package.json": json.dumps(data)}))


def test_a_manifest_in_no_known_letters_is_refused(tmp_path: Path):
    (tmp_path / "package.json").write_bytes(b'{"version": "\xff"}')

    with pytest.raises(CoordinationError, match="not UTF-8 text"):
        find_version(tmp_path)
