"""stdin, stdout and stderr that are closed, full, broken or read-only: the exit code says what it always says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAIR = "verify people/Clara/1.jpg probes/clara.jpg --threshold 0.5"
OTHERS = "verify people/Clara/1.jpg probes/hugo.jpg --threshold 0.99"
MISSING = "verify people/Clara/1.jpg nobody.jpg"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a shell and /dev/full"),
]


@pytest.fixture
def in_shell(people, cache_dir, tmp_path):
    """Run a command with redirections as a shell understands them; returns exit code, stdout and stderr."""
    (tmp_path / "people").symlink_to(people)
    (tmp_path / "probes").symlink_to(people.parent / "probes")
    (tmp_path / "pairs.csv").write_text("left,right\npeople/Clara/1.jpg,probes/clara.jpg\n")

    def run(command, redirections=""):
        program = shlex.join([sys.executable, "-m", "facecli"])
        done = subprocess.run(
            ["bash", "-c", f"{program} {command} {redirections}"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "FACECLI_CACHE": str(cache_dir),
                "FACECLI_HOME": str(tmp_path / "home"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2</dev/null"])
@pytest.mark.parametrize(
    ("command", "code"),
    [(PAIR, 0), (OTHERS, 1), (MISSING, 2), ("verify --no-such-option", 2), ("verify --pairs pairs.csv", 0)],
)
def test_the_code_does_not_depend_on_who_hears_the_remarks(command, code, stderr, in_shell):
    assert in_shell(command, stderr)[0] == code


@pytest.mark.parametrize(("command", "code"), [(PAIR, 0), (OTHERS, 1), (MISSING, 2)])
def test_remarks_into_a_broken_pipe(command, code, in_shell, tmp_path):
    done = in_shell(f"{command} 2> >(exec <&-; sleep 1)", "; code=$?; sleep 0.2; exit $code")
    assert done[0] == code


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full", "1</dev/null"])
@pytest.mark.parametrize("command", [PAIR, "--help", "models -f table"])
def test_a_stdout_that_is_needed_and_not_there_is_an_error(command, stdout, in_shell):
    code, _, said = in_shell(command, stdout)
    why = "no space left on device" if stdout == ">/dev/full" else "stdout is closed"
    assert (code, said.splitlines()[-1]) == (2, f"facecli: error: the output cannot be written ({why})")
    assert "Traceback" not in said


def test_a_stdout_that_is_not_needed_may_be_closed(in_shell, tmp_path):
    assert in_shell(f"{PAIR} -o one.jsonl", ">&- 2>&- <&-")[0] == 0
    assert '"match": true' in (tmp_path / "one.jsonl").read_text()
    assert in_shell("embed probes -o faces.npy -q", ">&-")[0] == 0


@pytest.mark.parametrize("stdin", ["<&-", "0>>log"])
@pytest.mark.parametrize("command", ["embed -", "verify --pairs -", "calibrate --scores - -o c.json"])
def test_a_stdin_that_cannot_be_read_is_an_error(command, stdin, in_shell):
    code, _, said = in_shell(command, stdin)
    assert (code, said) == (2, "facecli: error: stdin: cannot be read (it is closed)\n")


def test_files_that_are_opened_never_get_the_number_of_a_closed_stream(in_shell, tmp_path):
    """Or what is said of the run would be written into them."""
    assert in_shell("embed probes people/Clara nobody.jpg -o faces.jsonl", "<&- >&- 2>&-")[0] == 2
    lines = (tmp_path / "faces.jsonl").read_text().splitlines()
    assert all(line.startswith('{"schema"') for line in lines)
