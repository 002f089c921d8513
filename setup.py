"""Puts what the commands find by themselves into wheels. In a checkout it lies beside the packages, where configs and
docs name it; an editable installation finds it there."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("bench", "configs", "demo", "models/demo")


class WithProject(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        project = Path(self.build_lib) / "flows" / "project"
        for name in FOLDERS:
            copytree(name, project / name, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithProject})
