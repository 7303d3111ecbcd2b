"""Environments for the peers, made from PyPI when first needed and kept.

Each is a folder with a virtual environment; `done` in it is written last, so that one cut off is made anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = {
    # face_recognition asks for dlib, which is compiled for minutes; dlib-bin is the same, compiled. Its models are
    # found with pkg_resources, which setuptools 81 dropped.
    "face_recognition": (
        ["dlib-bin", "face_recognition_models", "setuptools<81", "numpy", "pillow", "click"],
        ["face_recognition"],
    ),
    "search": (["numpy", "pillow", "filelock", "platformdirs", "faiss-cpu", "usearch", "hnswlib"], []),
}
"""Environment -> what is installed with its dependencies, one after the other, and what without."""

TELLING = (
    *("numpy", "pillow", "onnxruntime", "torch", "facenet-pytorch", "typer"),
    *("face-recognition", "dlib-bin", "faiss-cpu", "usearch", "hnswlib"),
)


def python_of(name: str, cache: Path) -> Path | None:
    """Return the interpreter of the environment `name`; None, said on stderr, where it cannot be made.

    A package that does not install is named and left out, so that the other contestants can run.
    """
    folder = cache / name
    python = folder / "bin" / "python"
    if (folder / "done").exists():
        return python
    print(f"making an environment for {name} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    wanted, alone = REQUIREMENTS[name]
    missing = [package for package in wanted if not _install(python, package)]
    missing += [package for package in alone if not _install(python, package, "--no-deps")]
    for package in missing:
        print(f"{package} cannot be installed for {name}", file=sys.stderr)
    if alone and missing:
        return None
    (folder / "done").touch()
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the versions of what can change a figure, as far as an environment holds it."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name.replace(chr(95), chr(45)).lower(): d.version for d in m.distributions()}))"
    held = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True).stdout)
    return {name: held[name] for name in TELLING if name in held}


def _install(python: Path, package: str, *options: str) -> bool:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, package]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
