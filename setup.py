"""Adds to the wheel what is made from docs/: the chapters for `coord help CHAPTER`, and the man page."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CHAPTERS = "coordination/chapters"
MAN_PAGE = Path("build", "man", "coord.1")


class BuildWithChapters(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # `coord help` finds docs/ beside the package
            return
        folder = Path(self.build_lib, CHAPTERS)
        self.mkpath(str(folder))
        for chapter in sorted(Path("docs").glob("*.md")):
            self.copy_file(str(chapter), str(folder / chapter.name))


MAN_PAGE.parent.mkdir(parents=True, exist_ok=True)
man = runpy.run_path("docs/man.py")
MAN_PAGE.write_text(man["page"](man["CHAPTER"].read_text(encoding="utf-8")), encoding="utf-8")
setup(cmdclass={"build_py": BuildWithChapters}, data_files=[("share/man/man1", [str(MAN_PAGE)])])
