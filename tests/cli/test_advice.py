"""Every advice of the library has words of the command line, and the library has none of its own."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from facecli.calibration import files
from facecli.cli.advice import SHELL, in_shell_words, shell_record
from facecli.cli.app import _COMMANDS, app
from facecli.cli.examine import examine
from facecli.errors import DatabaseError, FaceError

PACKAGE = Path(__file__).parents[2] / "facecli"
LIBRARY = sorted(path for path in PACKAGE.rglob("*.py") if PACKAGE / "cli" not in path.parents)
SPOKEN = re.compile(rf"(?<![\w-])(?:--[a-z]|-[a-z]\b)|facecli ({'|'.join(_COMMANDS)})\b")
"""Options and commands."""
OTHERS = re.compile(r"var\(--|pip install|python -c")
"""Style sheets, and commands that are not ours."""
SMALLER = SHELL["smaller_face"]


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_every_advice_has_words_and_the_values_they_need():
    named = set()
    for path in PACKAGE.rglob("*.py"):
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            said = {keyword.arg: keyword.value for keyword in call.keywords}
            if not isinstance(said.get("advice"), ast.Constant):
                continue
            key = said["advice"].value
            named.add(key)
            values = said.get("values")
            given = {one.value for one in values.keys} if isinstance(values, ast.Dict) else set()
            assert set(re.findall(r"\{(\w+)\}", SHELL[key])) == given, f"{path.name}: {key}"
            assert "hint" in said, f"{path.name}: {key} says nothing to those without a shell"
    assert named == set(SHELL)


def texts(path):
    """Yield the texts in a module's code, which are all but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_the_library_speaks_no_shell():
    for path in LIBRARY:
        for text in texts(path):
            assert not SPOKEN.search(text) or OTHERS.search(text), (path, text)


def test_an_error_is_put_into_words_of_the_shell():
    error = DatabaseError("nobody", path="x", hint="a refresh does", advice="enrol", values={"root": "a {b}"})
    assert str(error) == "x: nobody; a refresh does"
    assert shell_record(error)["message"] == "nobody; 'facecli embed --db a {b}' enrols the photos"
    assert str(in_shell_words(error)) == "x: nobody; 'facecli embed --db a {b}' enrols the photos"
    assert str(in_shell_words(FaceError("what", hint="as it is"))) == "what; as it is"


@pytest.fixture
def call(cache_dir, calibration, people, tmp_path, monkeypatch):
    """Run a command where blank.png shows nobody, in people/ too; returns what it wrote to both streams."""
    files.install(calibration, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    for name in ("Clara", "Hugo"):
        shutil.copytree(people / name, f"people/{name}")
    for path in ("blank.png", "people/Clara/blank.png"):
        Image.new("RGB", (99, 99)).save(path)
    rows = ("Clara/1.jpg,Clara/2.jpg,1", "Clara/1.jpg,Hugo/1.jpg,0", "Clara/1.jpg,Clara/blank.png,1")
    Path("people/pairs.csv").write_text("\n".join(("left,right,mated", *rows)))

    def run(command):
        done = CliRunner().invoke(app, ["--home", "home", "--cache", str(cache_dir), *command.split()])
        return done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("command", "streams"),
    [
        ("embed blank.png", 2),
        ("embed --db people", 1),
        ("verify blank.png people/Hugo/1.jpg", 1),
        ("verify --pairs people/pairs.csv", 1),
        ("find blank.png --db people", 3),
        ("find people/Hugo/1.jpg --db people", 1),
        ("eval --pairs people/pairs.csv", 1),
        ("calibrate --pairs people/pairs.csv --no-install --replicates 100", 1),
        ("db check people --embed 1", 0),
    ],
)
def test_what_is_wrong_with_a_photo_is_said_in_words_of_the_shell(call, command, streams):
    stdout, stderr = call(command)
    assert (stdout + stderr).count(SMALLER) == streams, stdout + stderr
    assert "min_face_px" not in stdout + stderr


def test_what_a_database_remembers_is_in_words_of_the_shell(call):
    call("embed --db people")
    assert SMALLER in call("db status people --failures")[0]


@pytest.mark.slow
def test_images_left_out_of_a_training_are_said_in_words_of_the_shell(call, people):
    for name in ("Arthur", "Felix"):
        shutil.copytree(people / name, f"people/{name}")
    small = "--base small-cnn --width 4 --input-size 32 --people 2 --images 2 --val-share 0.5 --epochs 1"
    for _ in range(2):
        # The second run has the chips, and the reasons why there are none, from the cache folder.
        _, stderr = call(f"train people {small} -o run")
        assert (
            f"left out: people/Clara/blank.png: no face of 40 px or more found in 99 x 99 px; {SMALLER}"
            in stderr
        )
        shutil.rmtree("run")


def test_what_doctor_finds_is_said_in_words_of_the_shell(embedder, tmp_path):
    path = files.installed_path(embedder.id, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    details = [check.detail for check in examine([], cache_dir=embedder.cache_dir, user_dir=tmp_path)]
    assert any(detail.endswith(SHELL["recalibrate"]) for detail in details)
