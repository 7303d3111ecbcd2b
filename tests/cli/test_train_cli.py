"""The command `train`, and TensorBoard's files."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from facecli.cli.exit_codes import Commands
from facecli.cli.groups import grouped
from facecli.cli.session import Folders
from facecli.cli.train import train
from facecli.errors import UsageError
from facecli.templates.embedder import Embedder
from facecli.training.config import TrainConfig
from facecli.training.plot import plane
from facecli.training.tensorboard import EventFile

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

    app.command()(grouped(train))

    def call(*arguments: object, data: Path = people, small: str = SMALL):
        words = ["train", str(data), "-o", str(tmp_path / "run"), *small.split(), *map(str, arguments)]
        return CliRunner().invoke(app, words)

    return call


def test_one_record_an_epoch_and_a_model_at_the_end(run, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
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


@pytest.mark.parametrize("device", ["cuda:99", "meta", "gpu"])
def test_a_device_that_is_not_there_is_said_in_a_line_before_the_work(device, run):
    done = run("--device", device)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"device '{device}'" in done.stderr
    assert "use --device" in done.stderr


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


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--loss", "magnet"], ["'triplet'", "'sub-center'", "'memory'"]),
        (["--miner", "easy"], ["'semi-hard'", "'random-pairs'"]),
        (["--distance", "far"], ["'euclidean'", "'squared'", "'cosine'"]),
        (["--optimizer", "adam"], ["'adamw'", "'sgd'"]),
        (["--augment", "wild"], ["'none'", "'digits'"]),
        (["--precision", "float8"], ["'float32'", "'float16'"]),
        (["--faces", "one"], ["'largest'", "'center'"]),
        (
            ["--loss", "contrastive", "--soft"],
            ["'contrastive' has no soft margin; --soft goes with --loss triplet"],
        ),
        (["--soft"], ["'arcface' has no soft margin"]),
        (["--loss", "triplet", "--miner", "hard-negatives"], ["known are all, batch-hard"]),
    ],
)
def test_a_wrong_choice_is_answered_with_the_right_ones(run, tmp_path, arguments, names):
    done = run(*arguments)
    assert done.exit_code == 2
    assert all(name in done.stderr for name in names)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def configured(run, monkeypatch):
    """Return what `fit` is called with."""
    seen = []

    def fit(config, **options):
        seen.append((config, options))
        raise UsageError("this was seen")

    monkeypatch.setattr("facecli.training.fit.fit", fit)

    def call(*arguments):
        assert "this was seen" in run(*arguments, small="").stderr
        return seen.pop()

    return call


def test_without_options_a_run_is_the_configurations_defaults(configured, people, tmp_path):
    config, options = configured()
    assert config == TrainConfig(data=people, out=tmp_path / "run")
    assert options["resume"] is False


def test_every_option_reaches_the_configuration(configured, people, tmp_path):
    words = (
        "b --base small-cnn --weights w --no-pretrained --dim 8 --freeze gradual --val v --val-share 0.3"
        " --loss triplet --miner all --margin 0.5 --scale 2 --distance cosine --soft --swap --epochs 3 --people 4"
        " --images 5 --optimizer sgd --lr 0.1 --base-lr-factor 0.2 --weight-decay 0.3 --accumulate 2 --clip 1"
        " --augment flip --pull 3 --blend 0.25,0.5 --input-size 32 --width 4 --precision bfloat16 --device mps"
        " --workers 2 --faces center --aligned --min-face 20 --seed 7 --resume"
    )
    config, options = configured(*words.split())
    assert config == TrainConfig(
        data=people,
        also=(Path("b"),),
        out=tmp_path / "run",
        base="small-cnn",
        weights=Path("w"),
        pretrained=False,
        dim=8,
        freeze="gradual",
        val=Path("v"),
        val_share=0.3,
        loss="triplet",
        miner="all",
        margin=0.5,
        scale=2,
        distance="cosine",
        soft=True,
        swap=True,
        epochs=3,
        people=4,
        images=5,
        optimizer="sgd",
        lr=0.1,
        base_lr_factor=0.2,
        weight_decay=0.3,
        accumulate=2,
        clip=1,
        augmentation="flip",
        pull=3,
        blend=(0.25, 0.5),
        input_size=32,
        width=4,
        precision="bfloat16",
        device="mps",
        workers=2,
        faces="center",
        aligned=True,
        min_face_px=20,
        seed=7,
    )
    assert options["resume"] is True


def test_each_process_of_torchrun_has_a_gpu_of_its_own(configured, monkeypatch):
    joined = []
    monkeypatch.setattr(
        "facecli.training.distributed.joined", lambda device: joined.append(device) or nullcontext()
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [configured("--device", device)[0].device for device in ("cuda", "cuda:0", "cpu")] == [
        "cuda:1",
        "cuda:0",
        "cpu",
    ]
    assert joined == ["cuda", "cuda:0", "cpu"]


def test_several_pulls_are_a_run_each(configured, tmp_path):
    config, _ = configured("--pull", "3,10")
    assert (config.pull, config.out) == (3, tmp_path / "run" / "pull-3")


def test_help_begins_with_what_matters_most(run):
    screen = run("--help").stdout
    main, *others = screen[screen.index("─ Options ─") :].split("╰─")
    assert re.findall(r"^│ (--[a-z-]+)", main, re.MULTILINE) == [
        *("--output", "--base", "--loss", "--epochs", "--lr", "--val", "--freeze", "--device"),
        *("--resume", "--plot", "--help"),
    ]
    titles = [title for panel in others for title in re.findall(r"╭─ (\w+) ─", panel)]
    assert titles == ["Network", "Loss", "Batches", "Optimizer", "Faces", "Sampling", "Output"]


def test_event_files_are_read_by_tensorboard(tmp_path):
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulators = pytest.importorskip(module, reason="TensorBoard is not installed")
    with EventFile(tmp_path) as events:
        for epoch in range(3):
            events.add(epoch, {"eer": 0.5 / (epoch + 1)})
            # Whole after each epoch, not only at the end.
            read = accumulators.EventAccumulator(str(tmp_path)).Reload().Scalars("eer")
            assert [point.step for point in read] == list(range(epoch + 1))
    assert [round(point.value, 6) for point in read] == [0.5, 0.25, 0.166667]


def test_without_tensorboard_the_extra_is_named_before_anything_is_trained(run, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = run("--epochs", 1, "--tensorboard")
    assert done.exit_code == 2
    assert "pip install 'facecli[tensorboard]'" in done.stderr
    assert not (tmp_path / "run").exists()
