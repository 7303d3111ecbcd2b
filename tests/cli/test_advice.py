"""Every advice of the library has words of the command line, and the library has none of its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from facecli.cli.advice import SHELL, in_shell_words, shell_record
from facecli.errors import DatabaseError, FaceError

PACKAGE = Path(__file__).parents[2] / "facecli"
NO_SHELL = ("gallery", "recognition")
"""Wings whose messages are free of the command line's words."""


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


@pytest.mark.parametrize("wing", NO_SHELL)
def test_errors_of_a_wing_speak_no_shell(wing):
    for path in (PACKAGE / wing).rglob("*.py"):
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            for part in [*call.args, *(keyword.value for keyword in call.keywords)]:
                for node in ast.walk(part):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        assert not re.search(r"(?<![\w-])--[a-z]|facecli [a-z]+", node.value), (
                            path,
                            node.value,
                        )


def test_an_error_is_put_into_words_of_the_shell():
    error = DatabaseError("nobody", path="x", hint="a refresh does", advice="enrol", values={"root": "a {b}"})
    assert str(error) == "x: nobody; a refresh does"
    assert shell_record(error)["message"] == "nobody; 'facecli embed --db a {b}' enrols the photos"
    assert str(in_shell_words(error)) == "x: nobody; 'facecli embed --db a {b}' enrols the photos"
    assert str(in_shell_words(FaceError("what", hint="as it is"))) == "what; as it is"
