"""Every command that the README shows with its output is run, on a terminal, and must print what stands there."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = re.compile(r"^python -m pip install \. && ")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
TOLERANCE = 0.002
"""How far a printed similarity may lie from the README's: another processor may round otherwise."""


def examples() -> list[tuple[str, str]]:
    """Return (command, expected output) of each `$ ` line in the README's console blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def on_terminal(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command line with stdout and stderr on a terminal 110 columns wide; return what it showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux says EIO when the last writer is gone
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    process.wait()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    # Progress bars come after a second of work, on slow machines, and are taken away again.
    return "\n".join(
        line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if "━" not in line
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_db", folder / "sample_db", ignore=shutil.ignore_patterns(".facecli"))
    scripts = folder / "bin"
    scripts.mkdir()
    script = scripts / "facecli"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m facecli "$@"\n')
    script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FACECLI_CACHE": str(folder / "cache"),
        "FACECLI_HOME": str(folder / "home"),
        "COLUMNS": "110",
        "TERM": "xterm",
    }
    # The networks' preparation is said once, on the very first use: not part of any example.
    subprocess.run(["facecli", "doctor", "-q"], cwd=folder, env=environment, capture_output=True, check=True)
    return folder, environment


def words(text: str) -> list[str]:
    """Return the words, less the bars of a histogram: one similarity in the next bin changes them."""
    return [word for word in text.split() if not set(word) <= set("▁▂▃▄▅▆▇█")]


def same(expected: list[str], shown: list[str]) -> bool:
    """Say whether the words agree: numbers within the tolerance, `...` for any number of words."""
    if not expected:
        return not shown
    if expected[0] == "...":
        return any(same(expected[1:], shown[k:]) for k in range(len(shown) + 1))
    if not shown:
        return False
    return alike(expected[0], shown[0]) and same(expected[1:], shown[1:])


def alike(expected: str, shown: str) -> bool:
    a, b = NUMBER.findall(expected), NUMBER.findall(shown)
    if NUMBER.sub("#", expected) != NUMBER.sub("#", shown) or len(a) != len(b):
        return False
    return all(
        abs(float(x) - float(y)) <= max(TOLERANCE, 0.02 * abs(float(x))) for x, y in zip(a, b, strict=True)
    )


def names_of(group) -> list[str]:
    """Return what is typed for each command, such as `find` and `db check`."""
    found = []
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        within = names_of(command) if hasattr(command, "list_commands") else []
        found += [f"{name} {inner}" for inner in within] or [name]
    return found


def test_readme_has_examples_of_every_command() -> None:
    commands = " ".join(command for command, _ in examples())
    from facecli.cli.app import app

    names = names_of(typer.main.get_command(app))
    assert "verify" in names
    assert [name for name in names if f"facecli {name}" not in commands] == []


@pytest.mark.slow
def test_readme_examples_print_what_they_show(place: tuple[Path, dict[str, str]]) -> None:
    folder, environment = place
    sys.setrecursionlimit(10_000)
    wrong = []
    for command, expected in examples():
        command = INSTALL.sub("", command)
        if command.endswith("python -m pytest"):
            continue
        shown = on_terminal(command, folder, environment)
        if not same(words(expected), words(shown)):
            wrong.append(f"$ {command}\n--- README\n{expected}\n--- shown\n{shown}")
    assert not wrong, "\n\n".join(wrong)
