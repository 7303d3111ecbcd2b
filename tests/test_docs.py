"""Every command that README and docs show is run, on a terminal, and must print what stands there; Python blocks too.

Each page is run from top to bottom in a folder of its own with a copy of sample_db. A block that cannot be run here
stands below a comment that says why: `<!-- not run: REASON -->`. The newcomer's exercise says of blocks that they are a
file, or a line of a table: they are written into a copy of the package, and the commands after them use it.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from test_structure import WINGS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|file|line): (?P<of>.+?) -->\n+)?```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.S | re.M,
)
INSTALL = re.compile(r"^python -m pip install \. && ")
TESTS = re.compile(r"\bpytest\b")
"""The tests do not run themselves."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
TOLERANCE = 0.002
"""How far a printed similarity may lie from the page's: another processor may round otherwise."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment above it: what it is instead of an example to run."""

    kind: str
    text: str
    mark: str | None
    """`not run`, `file` or `line`; None for an example to run."""
    of: str
    """The reason, the file that the block is, or where in a table it goes: `FILE after TEXT`."""


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(b["kind"], b["text"], b["mark"], b["of"] or "") for b in BLOCK.finditer(text)]


def examples(block: Block) -> list[tuple[str, str]]:
    """Return (command, expected output) of each `$ ` line of a console block."""
    commands = []
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        commands.append((command, output))
    return commands


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
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of every page: `facecli` on the path, and folders of its own for cache and calibrations."""
    folder = tmp_path_factory.mktemp("docs")
    scripts = folder / "bin"
    scripts.mkdir()
    for name, module in (("facecli", "-m facecli"), ("python", "")):
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FACECLI_CACHE": str(folder / "cache"),
        "FACECLI_HOME": str(folder / "home"),
        # Python knows no options of the command line: its folders are those of the platform.
        "XDG_CACHE_HOME": str(folder / "xdg_cache"),
        "XDG_DATA_HOME": str(folder / "xdg_data"),
        "COLUMNS": "110",
        "TERM": "xterm",
    }
    # The networks' preparation is said once, on the very first use: not part of any example.
    subprocess.run(["facecli", "doctor", "-q"], cwd=folder, env=environment, capture_output=True, check=True)
    return environment


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a copy of the sample database."""
    shutil.copytree(ROOT / "sample_db", tmp_path / "sample_db", ignore=shutil.ignore_patterns(".facecli"))
    return tmp_path


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


def write(block: Block, place: Path) -> None:
    """Put a `file` or a `line` block into a copy of the package, which commands in `place` find before the real one."""
    if not (place / "facecli").exists():
        shutil.copytree(ROOT / "facecli", place / "facecli", ignore=shutil.ignore_patterns("__pycache__"))
    name, _, opening = block.of.partition(" after ")
    if block.mark == "file":
        assert not (place / name).exists(), f"{name} is there already"
        (place / name).write_text(block.text)
        return
    text = (place / name).read_text()
    assert text.count(opening) == 1, f"{name} does not say '{opening}' once"
    (place / name).write_text(text.replace(opening, f"{opening}\n{block.text}"))


def test_every_command_has_an_example() -> None:
    commands = " ".join(
        command
        for page in PAGES
        for block in blocks(page)
        if block.kind == "console"
        for command, _ in examples(block)
    )
    from facecli.cli.app import app

    names = names_of(typer.main.get_command(app))
    assert "verify" in names
    assert [name for name in names if f"facecli {name}" not in commands] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, place: Path, environment: dict[str, str]) -> None:
    """From top to bottom: commands print what stands there; Python blocks run, in one namespace, after them."""
    sys.setrecursionlimit(10_000)
    environment = {**environment, "FACECLI_HOME": str(place / "home")}
    wrong, code = [], ""
    for block in blocks(page):
        if block.mark in ("file", "line"):
            write(block, place)
        elif block.mark is None and block.kind == "python":
            code += block.text
        elif block.mark is None and block.kind == "console":
            for command, expected in examples(block):
                if TESTS.search(command):
                    continue
                shown = on_terminal(INSTALL.sub("", command), place, environment)
                if not same(words(expected), words(shown)):
                    wrong.append(f"$ {command}\n--- {page.name}\n{expected}\n--- shown\n{shown}")
    assert not wrong, "\n\n".join(wrong)
    if code:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_that_are_not_run_say_why(page: Path) -> None:
    """A block is run, or a comment says why it is not, or it shows no command at all."""
    for block in blocks(page):
        assert block.kind in ("console", "python", "text", "mermaid"), f"a block of kind '{block.kind}'"
        assert block.kind != "text" or not block.text.startswith("$ ") or block.mark, block.text[:200]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Links to files of this repository, and to headings within them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if heading:
            text = path.read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.+)$", text, re.M)
            assert heading in [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles], target


def test_the_readme_is_short_and_shows_its_picture() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert "docs/pictures/find.jpg" in text
    assert (ROOT / "docs/pictures/find.jpg").stat().st_size < 200_000


def test_the_drawing_in_contributing_is_the_one_that_is_held() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]+\| ([^|]*)\|$", PAGES[1].read_text(encoding="utf-8"), re.M)
    drawn = {wing: set(knows.replace(",", " ").split()) for wing, knows in rows}
    assert drawn == {wing: set(knows.split()) for wing, knows in WINGS.items()}
