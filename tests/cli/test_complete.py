"""What the shell offers when a word is to be completed: asked as the shell asks, through the environment."""

import os
import subprocess
import sys
from typing import get_args

import pytest

from facecli.cli.options import Form
from facecli.config import FacePolicy, OneFacePolicy, PickedFacePolicy
from facecli.faces.detector import DETECTORS
from facecli.models.built_in import BUILT_IN, SMALL_CNN
from facecli.training.strengths import STRENGTHS

HEAVY = "{'numpy', 'torch', 'onnx', 'onnxruntime', 'PIL', 'matplotlib', 'scipy'}"

ASK = (
    "import atexit, sys\nfrom facecli.__main__ import main\n"
    f"atexit.register(lambda: print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr))\n"
    "main()"
)


def offered(words, folder, **environment):
    """Return what bash would offer for the last of `words`; nothing heavy may have been imported for it."""
    question = {
        "_FACECLI_COMPLETE": "complete_bash",
        "COMP_WORDS": f"facecli {words}",
        "COMP_CWORD": str(words.count(" ") + 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, **question, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture
def folder(tmp_path):
    for name in ("Ada", "Alan", "Mary Ann", ".facecli"):
        (tmp_path / "people" / name).mkdir(parents=True)
    (tmp_path / "people" / "notes.txt").write_text("nobody")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("verify --model ", list(BUILT_IN)),
        ("find -m v", ["vggface2"]),
        ("verify --model ./my", []),  # the shell then offers files
        ("models ", ["list", "fetch", "add", "remove"]),
        ("models list c", ["casia-webface"]),
        ("models fetch scrfd", ["scrfd-10g", "scrfd-500m"]),
        ("doctor c", ["casia-webface"]),
        ("verify --faces ", list(get_args(OneFacePolicy))),
        ("find --faces ", list(get_args(FacePolicy))),
        ("embed --detector ", list(DETECTORS)),
        ("embed --format t", ["table", "tsv"]),
        ("db status people -f ", list(get_args(Form))),
        ("verify a.jpg --db people --subject ", ["Ada", "Alan", "Mary Ann"]),
        ("verify a.jpg --db people --subject A", ["Ada", "Alan"]),
        ("verify a.jpg --db nowhere --subject ", []),
        ("verify a.jpg --subject ", []),
        ("db import faces.npy --db people --subject A", ["Ada", "Alan"]),
        ("train people --base ", ["sface", "dlib", "vggface2", "casia-webface", SMALL_CNN]),
        ("train people --loss s", ["supcon", "softmax", "sub-center"]),
        ("train people --miner h", ["hardest-negative", "hard-negatives"]),
        ("train people --augment ", list(STRENGTHS)),
        ("train people --faces ", list(get_args(PickedFacePolicy))),
        ("train people --optimizer ", ["adamw", "sgd"]),
        ("ver", ["verify"]),
        ("db im", ["import"]),
        ("verify --thr", ["--threshold"]),
    ],
)
def test_values_are_offered_and_nothing_heavy_is_imported(words, expected, folder):
    assert offered(words, folder) == expected


@pytest.mark.slow
def test_models_that_were_added_are_offered(folder):
    path = folder / "home" / "models" / "sharp" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    home = str(folder / "home")
    assert offered("verify --model sh", folder, FACECLI_HOME=home) == ["sharp"]
    assert offered(f"--home {home} models remove ", folder) == ["sharp"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_show_completion_prints_a_script(shell):
    asked = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "facecli", "--show-completion", shell],
        env=asked,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert f"_FACECLI_COMPLETE=complete_{shell}" in done.stdout
