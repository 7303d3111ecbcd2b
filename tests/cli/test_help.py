"""`facecli help`: the same screen as `--help`."""

import subprocess
import sys

import pytest


def shown(*words):
    return subprocess.run([sys.executable, "-m", "facecli", *words], capture_output=True, text=True)


@pytest.mark.parametrize("words", [(), ("verify",), ("db",), ("db", "check")])
def test_help_of_a_command_is_what_the_option_shows(words):
    asked = shown("help", *words)
    assert asked.returncode == 0
    assert asked.stdout == shown(*words, "--help").stdout


def test_an_unknown_command_is_an_error():
    done = shown("help", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("facecli: error: no command is called 'nothing'")
    assert shown("help", "verify", "more").returncode == 2
