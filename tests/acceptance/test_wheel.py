"""The wheel: its contents, and `coord demo` from an environment where it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from sysconfig import get_path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from tests.testbed import Testbed, plain

ROOT = Path(__file__).parents[2]
NewTestbed = Callable[[], Testbed]


class Built(NamedTuple):
    direct: Path
    """Built from a copy of the checkout."""
    from_sdist: Path
    """Built from the source distribution of that copy."""


def tracked(*folders: str) -> list[str]:
    """Return the paths of files that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path and (ROOT / path).exists()]


def start_build(source: Path, kind: str, target: Path) -> subprocess.Popen[bytes]:
    """Run the build backend in `source`, with the setuptools of this environment: no network is needed."""
    call = f"from setuptools.build_meta import build_{kind} as build; build({str(target)!r})"
    return subprocess.Popen([sys.executable, "-c", call], cwd=source, stdout=subprocess.DEVNULL)


def copy_checkout(target: Path) -> Path:
    for path in tracked():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes((ROOT / path).read_bytes())
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    builds = [
        start_build(copy_checkout(folder / "copy-1"), "sdist", folder),
        start_build(copy_checkout(folder / "copy-2"), "wheel", folder / "direct"),
    ]
    assert [build.wait(60) for build in builds] == [0, 0]
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [source] = (folder / "unpacked").iterdir()
    assert start_build(source, "wheel", folder / "from_sdist").wait(60) == 0
    return Built(*(next((folder / name).glob("*.whl")) for name in Built._fields))


def contents(wheel: Path) -> Mapping[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_every_file_of_the_two_packages_and_nothing_else(built: Built) -> None:
    held = {name for name in contents(built.direct) if not re.search(r"\.(dist-info|data)/", name)}
    chapters = {
        f"coordination/chapters/{Path(name).name}" for name in tracked("docs") if name.endswith(".md")
    }

    assert held == {*tracked("coordination", "workers"), *chapters}
    assert any(name.endswith(".lua") for name in held)
    assert "coordination/demo/ecosystem.yaml" in held
    assert any(name.endswith(".data/data/share/man/man1/coord.1") for name in contents(built.direct))


def test_the_source_distribution_builds_the_same_wheel(built: Built) -> None:
    assert contents(built.from_sdist) == contents(built.direct)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment and return its folder of programs.

    A .pth file lends it the dependencies of the environment of the tests; coord comes from the wheel alone,
    since Python does not process the .pth file of the editable install in a folder that was lent this way.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    site_packages = home / Path(get_path("purelib")).relative_to(sys.prefix)
    (site_packages / "dependencies.pth").write_text(get_path("purelib") + "\n")
    uv = Path(sys.executable).with_name("uv")
    options = ["--quiet", "--offline", "--no-deps", "--no-cache", "--python", python]
    subprocess.run([uv, "pip", "install", *options, built.direct], check=True)
    return python.parent


def test_the_installed_coord_imports_nothing_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import coordination, workers; print(coordination.__file__, workers.__file__)"
    command = [installed / "python", "-c", code]
    files = subprocess.run(command, cwd=tmp_path, env=plain(), capture_output=True, text=True, check=True)

    assert all(Path(file).is_relative_to(installed.parent) for file in files.stdout.split())


def test_the_installed_coord_says_its_version_and_executes_the_demo(
    installed: Path, new_testbed: NewTestbed
) -> None:
    testbed = new_testbed()
    outside = testbed.folder.parent
    coord = [installed / "coord"]

    version = testbed.begin("--version", command=coord, cwd=outside).done()
    demo = testbed.begin("demo", str(testbed.folder), command=coord, cwd=outside).done()

    assert (version.code, version.out.split()) == (0, [metadata.version("coord")])
    assert demo.code == 0, demo.err
    assert "12 succeeded" in demo.out
