"""The engine: one export for all processes, nothing that a damaged or closed cache folder leaves for ever."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facecli.errors import UsageError
from facecli.files.atomic import write_atomic
from facecli.models import mtcnn_networks, runtime
from facecli.models.network import Network

NETWORK = mtcnn_networks.network(mtcnn_networks.REFINE)
CHIPS = np.random.default_rng(0).uniform(0, 255, (3, 3, 24, 24)).astype(np.float32)

EXPORT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from facecli.models import runtime
from facecli.models import mtcnn_networks
network = mtcnn_networks.network(mtcnn_networks.REFINE)
def slowly():
    print("built", flush=True)
    time.sleep(0.5)
    return network.onnx()
print("ready", flush=True)
sys.stdin.readline()
runtime.export(replace(network, onnx=slowly), cache_dir=Path(sys.argv[1]))
"""


@pytest.fixture
def builds():
    """A network and the list that grows when its ONNX form is built."""
    built = []

    def onnx():
        built.append(1)
        return NETWORK.onnx()

    return replace(NETWORK, onnx=onnx), built


@pytest.mark.slow
def test_two_processes_export_once(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", EXPORT, str(tmp_path)], **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    said = []
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        said.append(process.communicate(timeout=60)[0])
        assert process.returncode == 0
    assert "".join(said) == "built\n"
    assert sorted(p.suffix for p in (tmp_path / "networks").iterdir()) in ([".lock", ".onnx"], [".onnx"])


def test_threads_export_once(builds, tmp_path):
    network, built = builds
    threads = [
        threading.Thread(target=runtime.export, args=(network,), kwargs={"cache_dir": tmp_path})
        for _ in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_an_export_is_used_again_and_announced_once(builds, tmp_path):
    network, built = builds
    said = []
    for _ in range(2):
        runtime.load(network, cache_dir=tmp_path, notify=said.append)
    assert len(built) == 1
    assert said == ["preparing the network 'rnet' (first use only)"]


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda data: b"", lambda data: bytes(1000)],
    ids=["last byte", "half", "empty", "zeros"],
)
def test_a_damaged_export_is_made_again(spoil, builds, tmp_path):
    network, built = builds
    path = runtime.export(network, cache_dir=tmp_path)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    said = []
    run = runtime.load(network, cache_dir=tmp_path, notify=said.append)
    assert run(CHIPS)[0].shape == (3, 2)
    assert path.read_bytes() == whole
    assert said == ["preparing the network 'rnet' (its file is damaged)"]
    runtime.load(network, cache_dir=tmp_path)
    assert len(built) == 2


@pytest.mark.parametrize("place", ["file", "file/below", "network is a folder"])
def test_a_cache_folder_that_cannot_be_written_is_a_clear_error(place, tmp_path):
    cache = tmp_path / place
    if place == "network is a folder":
        runtime.onnx_path(NETWORK, cache).mkdir(parents=True)
    else:
        (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"'rnet' cannot be kept \(.*\); choose another cache folder"):
        runtime.load(NETWORK, cache_dir=cache)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="no space left on device"):
        runtime.load(NETWORK, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))
    assert not list(tmp_path.rglob("*.part"))


def test_what_was_exported_runs_from_a_folder_that_is_closed_by_now(cache_dir, monkeypatch):
    runtime.load(NETWORK, cache_dir=cache_dir)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("the cache folder was written to"))
    monkeypatch.setattr(runtime, "write_atomic", lambda *_: pytest.fail("the cache folder was written to"))
    runtime.load(NETWORK, cache_dir=cache_dir)


def test_an_interrupted_export_leaves_nothing(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runtime.export(replace(NETWORK, onnx=interrupted), cache_dir=tmp_path)
    assert runtime.load(NETWORK, cache_dir=tmp_path)(CHIPS)[0].shape == (3, 2)


def test_write_atomic_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_name_of_an_export_changes_with_its_key(tmp_path):
    other = Network("rnet", "0" * 64, onnx=NETWORK.onnx, torch=NETWORK.torch)
    assert runtime.onnx_path(other, tmp_path) != runtime.onnx_path(NETWORK, tmp_path)


def test_torch_agrees_with_onnx_runtime(cache_dir):
    found = [runtime.load(NETWORK, cache_dir=cache_dir, device=device)(CHIPS) for device in ("cpu", "torch")]
    for onnx, torch in zip(*found, strict=True):
        assert torch.dtype == np.float32
        np.testing.assert_allclose(torch, onnx, atol=1e-4)


@pytest.mark.parametrize(
    "device", ["cuda:99", "cuda:-1", "cuda:99999999999999999999", "gpu", "", "torchx", "CPU:x", "meta", "xla"]
)
def test_an_unknown_device_is_refused_with_the_known_ones(device, cache_dir):
    said = f"(unknown device '{device}'|the device '{device}' cannot be used \\(.*\\)); use the device cpu, torch, cuda"
    with pytest.raises(UsageError, match=said):
        runtime.load(NETWORK, cache_dir=cache_dir, device=device)


@pytest.mark.slow
def test_onnx_runtime_keeps_no_record_of_its_use(builds, tmp_path):
    """It writes what it would send to its makers into the user's cache folder."""
    network, _ = builds
    path = runtime.export(network, cache_dir=tmp_path / "cache")
    (tmp_path / "home").mkdir()
    code = (
        "import sys\nfrom facecli.models import runtime\n"
        "runtime.engine().InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    )
    env = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    env.pop("XDG_CACHE_HOME", None)
    subprocess.run([sys.executable, "-c", code, str(path)], env=env, check=True)
    assert list((tmp_path / "home").rglob("*")) == []
