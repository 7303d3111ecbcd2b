"""The command `train`, and TensorBoard's files."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from facecli.cli.exit_codes import Commands
from facecli.cli.session import Folders
from facecli.cli.train import train
from facecli.templates.embedder import Embedder
from facecli.training.plot import plane
from facecli.training.tensorboard import EventFile, crc32c

torch.set_num_threads(1)

SMALL = "--aligned --base small-cnn --dim 8 --width 4 --input-size 16 --people 3 --images 2 --val-share 0.3"


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(8):
        (root / f"p{person}").mkdir()
        pattern = rng.integers(0, 200, (16, 16))
        for k in range(3):
            image = (pattern + rng.integers(0, 50, (16, 16))).astype(np.uint8)
            Image.fromarray(image).save(root / f"p{person}" / f"{k}.png")
    return root


@pytest.fixture
def run(tmp_path, people):
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.callback()
    def main(context: typer.Context) -> None:
        context.obj = Folders(tmp_path / "cache", tmp_path / "home")

    app.command()(train)

    def call(*arguments: object, data: Path = people, small: str = SMALL):
        words = ["train", str(data), "-o", str(tmp_path / "run"), *small.split(), *map(str, arguments)]
        return CliRunner().invoke(app, words)

    return call


def test_one_record_an_epoch_and_a_model_at_the_end(run, tmp_path):
    done = run("--loss", "triplet", "--epochs", 2, "--tensorboard")
    assert done.exit_code == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["epoch"] for r in records] == [0, 1, 2]
    assert {"loss", "eer", "tar_at_fmr_1e-3", "rank1", "active_fraction"} <= records[1].keys()
    assert "of 2 others" in done.stderr
    assert "warning: only 6 people" in done.stderr
    assert "--model" in done.stderr
    model = str(tmp_path / "run" / "best")
    embedder = Embedder(model, cache_dir=tmp_path / "cache", device="torch", aligned=True)
    known = json.loads((tmp_path / "run" / "best" / "calibration.json").read_text())
    assert known["embedder_id"] == embedder.id
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_a_picture_of_the_run(run, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    done = run("--epochs", 2, "--plot", tmp_path / "run.svg")
    assert done.exit_code == 0
    drawn = (tmp_path / "run.svg").read_text()
    assert drawn.startswith("<?xml")
    assert run("--epochs", 2, "--resume", "--plot", tmp_path / "again.png").exit_code == 0
    assert Image.open(tmp_path / "again.png").size == (1200, 960)
    refused = run("--epochs", 2, "--resume", "--plot", tmp_path / "run.txt")
    assert refused.exit_code == 2
    assert "run.txt" in refused.stderr


def test_the_plane_keeps_what_spreads_most():
    """Against the eigenvectors of the covariance."""
    rows = np.random.default_rng(0).standard_normal((50, 6)) * [9, 0.1, 3, 0.1, 0.1, 0.1]
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(0)) @ vectors[:, ::-1][:, :2]
    points = plane(rows)
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    assert np.array_equal(points, plane(rows))


def test_a_second_run_needs_resume_or_another_folder(run):
    assert run("--epochs", 1).exit_code == 0
    again = run("--epochs", 1)
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    resumed = run("--epochs", 1, "--resume")
    assert resumed.exit_code == 0
    assert resumed.stdout == ""


def test_several_folders_are_sources_of_their_own(run, people, tmp_path):
    for name, chosen in (("a", "p[012]"), ("b", "p[345]"), ("val", "p[67]")):
        for person in people.glob(chosen):
            shutil.copytree(person, tmp_path / name / person.name)
    two = {"data": tmp_path / "a", "small": SMALL.replace("--val-share 0.3", "--epochs 1")}
    refused = run(tmp_path / "b", **two)
    assert refused.exit_code == 2
    assert "--val" in refused.stderr
    done = run(tmp_path / "b", "--val", tmp_path / "val", **two)
    assert done.exit_code == 0
    assert "18 images of 6 people, validating on 6 of 2 others" in done.stderr


def test_interrupted_says_how_to_go_on(run, monkeypatch):
    def interrupt(self, number, on_step):
        raise KeyboardInterrupt

    monkeypatch.setattr("facecli.training.learner.Learner.epoch", interrupt)
    done = run("--epochs", 1)
    assert done.exit_code == 130
    assert "--resume" in done.stderr


def test_an_unreadable_image_is_named_and_ends_with_2(run, people, tmp_path):
    root = tmp_path / "copy"
    for path in people.rglob("*.png"):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / path.parent.name / path.name).write_bytes(path.read_bytes())
    (root / "p0" / "bad.jpg").write_bytes(b"not a photo")
    done = run("--epochs", 1, data=root)
    assert done.exit_code == 2
    assert "bad.jpg" in done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments",
    [["--loss", "magnet"], ["--blend", "half"], ["--freeze", "all"], ["--pull", "1"], ["--lr", "fast"]],
)
def test_wrong_options_end_with_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_event_files_hold_the_points(tmp_path):
    events = EventFile(tmp_path)
    events.add(0, {"eer": 0.25})
    events.add(300, {"eer": 0.125, "loss": 2.0})
    data = events.path.read_bytes()
    records = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, at in ((data[:8], 8), (data[12 : 12 + length], 12 + length)):
            crc = crc32c(part)
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack("<I", data[at : at + 4]) == (masked,)
        records.append(data[12 : 12 + length])
        data = data[16 + length :]
    assert len(records) == 3
    assert b"brain.Event:2" in records[0]
    assert b"\x0a\x03eer\x15" + struct.pack("<f", 0.25) in records[1]
    assert b"\x10\xac\x02" in records[2]


def test_event_files_are_read_by_tensorboard(tmp_path):
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulators = pytest.importorskip(module, reason="TensorBoard is not installed")
    events = EventFile(tmp_path)
    for epoch in range(3):
        events.add(epoch, {"eer": 0.5 / (epoch + 1)})
    found = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, round(e.value, 6)) for e in found.Scalars("eer")] == [(0, 0.5), (1, 0.25), (2, 0.166667)]
