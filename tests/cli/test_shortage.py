"""What the system does not give is said in a line with a way out, and is no bug, no damage and no non-match."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from typer.testing import CliRunner

from facecli.cli.app import app
from facecli.errors import Shortage, shortage
from facecli.models import runtime
from facecli.models.network import Network

REPOSITORY = Path(__file__).parents[2]

SHORT = {
    "memory": [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libX.so: failed to map segment from shared object"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
        ort_state.RuntimeException("Exception during initialization: std::bad_alloc"),
        ort_state.RuntimeException("Failed to allocate memory for requested buffer of size 4294967296"),
    ],
    "files": [
        OSError(errno.EMFILE, "Too many open files", "x"),
        OSError(errno.ENFILE, "Too many open files in system"),
        ImportError("mmap.so: cannot open shared object file: Too many open files"),
        ort_state.Fail(
            "[ONNXRuntimeError] : 1 : FAIL : Load model from x.onnx failed:system error number 24"
        ),
    ],
    "threads": [RuntimeError("can't start new thread")],
}
CASES = [
    pytest.param(word, error, id=f"{word}-{n}")
    for word, all_ in SHORT.items()
    for n, error in enumerate(all_)
]


@pytest.mark.parametrize(("word", "error"), CASES)
def test_a_shortage_is_said_in_a_line(word, error, tmp_path, monkeypatch):
    def short(*_, **__):
        try:
            raise error
        except Exception as first:
            raise LookupError("what became of it") from first

    monkeypatch.setattr("facecli.cli.inputs.find_images", short)
    done = CliRunner().invoke(
        app, ["--cache", str(tmp_path), "embed", "x.jpg", "--aligned"], prog_name="facecli"
    )
    assert done.exit_code == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith("facecli: error: ")
    assert word in said
    assert "ulimit" in said
    assert "Traceback" not in done.stderr


def test_other_errors_are_no_shortage():
    for error in (ValueError("x"), OSError(errno.ENOENT, "no"), ort_state.Fail("system error number 2")):
        assert shortage(error) is None


@pytest.mark.parametrize("error", [e for all_ in (SHORT["memory"], SHORT["files"]) for e in all_[-1:]])
def test_a_sound_network_that_cannot_be_loaded_now_is_not_called_damaged(error, tmp_path, monkeypatch):
    """Nor made again: that takes more memory still."""
    built, said = [], []
    network = Network("net", "0" * 16, lambda: built.append(1) or b"onnx", lambda: None)

    def session(*_, **__):
        raise error

    monkeypatch.setattr("onnxruntime.InferenceSession", session)
    run = runtime.load(network, cache_dir=tmp_path, notify=said.append)
    with pytest.raises(Shortage):
        run(None)
    assert built == [1]
    assert said == ["preparing the network 'net' (first use only)"]


def limited(kind, limit, people, cache_dir, home):
    first, second = people / "Clara" / "1.jpg", people / "Clara" / "2.jpg"
    return subprocess.run(
        [sys.executable, "-m", "facecli", "verify", first, second, "--threshold", "0.5"],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "FACECLI_CACHE": str(cache_dir),
            "FACECLI_HOME": str(home),
        },
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("files", [5, 6, 7, 8])
def test_a_limit_of_open_files(files, people, embedder, cache_dir, tmp_path):
    done = limited(resource.RLIMIT_NOFILE, files, people, cache_dir, tmp_path)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert "damaged" not in done.stderr
    if done.returncode:
        assert done.stderr.splitlines()[-1].startswith("facecli: error: ")


@pytest.mark.slow
@pytest.mark.parametrize("kib", [300_000, 350_000, 400_000])
def test_a_limit_of_memory(kib, people, embedder, cache_dir, tmp_path):
    done = limited(resource.RLIMIT_AS, kib << 10, people, cache_dir, tmp_path)
    # Libraries in C end the process by themselves where they cannot go on; OpenBLAS does so with 1.
    theirs = done.returncode < 0 or done.returncode == 127 or "OpenBLAS" in done.stderr
    assert done.returncode in (0, 2) or theirs, done.stderr
    assert "Traceback" not in done.stderr
    assert "damaged" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["find", "x.jpg", "--db", "y"],
        ["embed", "--db", "y"],
        ["embed", "x.jpg", "-o", "x.npy"],
        ["embed", "x.jpg", "-o", "x.csv"],
        ["db", "status", "y"],
        ["db", "export", "y", "-o", "z.npy"],
        ["db", "gc", "y"],
        ["verify", "a.jpg", "b.jpg"],
    ],
)
def test_a_current_folder_that_is_gone(command, cache_dir, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = CliRunner().invoke(app, ["--cache", str(cache_dir), *command], prog_name="facecli")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("facecli: error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_nobody_thought_of_is_no_non_match(tmp_path):
    """Before the last resort is there, and after it."""
    code = "import sys, facecli.cli\nsys.modules['facecli.cli.app'] = None\nfrom facecli.__main__ import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 70
    assert "Traceback" in done.stderr
