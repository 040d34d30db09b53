"""Adds the chapters of docs/ to the package, where `coord help CHAPTER` reads them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CHAPTERS = "coordination/chapters"


class BuildWithChapters(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # `coord help` finds docs/ beside the package
            return
        folder = Path(self.build_lib, CHAPTERS)
        self.mkpath(str(folder))
        for chapter in sorted(Path("docs").glob("*.md")):
            self.copy_file(str(chapter), str(folder / chapter.name))


setup(cmdclass={"build_py": BuildWithChapters})
