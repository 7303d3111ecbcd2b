"""The parts of training: data, augmentation, freezing, schedule, alarms, verification, joined batch norm."""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facecli.errors import BadInput, NoFace, NoSuchFile, UnreadableImage, UsageError
from facecli.faces.choice import Choice
from facecli.models import architectures
from facecli.photos import source
from facecli.stats.retrieval import retrieval
from facecli.training import alarms, augment, distributed, freeze, recipe, validation
from facecli.training import data as training_data
from facecli.training.alarms import Alarm
from facecli.training.chips import ChipCache
from facecli.training.config import TrainConfig
from facecli.training.learner import normalised
from facecli.training.schedule import rate
from facecli.training.start import base_spec, pretrained, start
from facecli.training.strengths import STRENGTHS, Augmentation, strength
from facecli.training.validation import Measure

torch.set_num_threads(1)

SHARED = Path(__file__).parents[3] / "shared" / "data"
SPEC = replace(base_spec("small-cnn"), input_size=24)


def picture(path: Path, seed: int, size=(30, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)


@pytest.fixture
def people(tmp_path) -> Path:
    for k, name in enumerate(["ann/1", "ann/2", "bob/1", "bob/deep/2", "zoe/1"]):
        picture(tmp_path / "people" / f"{name}.png", k)
    return tmp_path / "people"


def load(root: Path, tmp_path: Path, **options):
    return training_data.load(root, SPEC, cache_dir=tmp_path / "cache", aligned=True, **options)


def test_a_folder_per_subject(people, tmp_path):
    heard = []
    data = load(people, tmp_path, progress=lambda done, total: heard.append((done, total)))
    assert data.subjects == ("ann", "bob", "zoe")
    assert data.names == ["ann", "ann", "bob", "bob", "zoe"]
    assert data.chips.shape == (5, 24, 24, 3)
    assert data.chips.dtype == np.uint8
    assert heard == [(k, 5) for k in range(1, 6)]
    assert data.digests[0] == hashlib.sha256((people / "ann" / "1.png").read_bytes()).hexdigest()


def test_chips_are_cut_once(people, tmp_path, monkeypatch):
    first = load(people, tmp_path)
    decoded = []
    original = source.decode
    monkeypatch.setattr(source, "decode", lambda *a, **k: decoded.append(k["path"]) or original(*a, **k))
    os.rename(people / "ann", people / "anna")
    picture(people / "bob" / "3.png", 9)
    again = load(people, tmp_path)
    assert [p.name for p in decoded] == ["3.png"]
    assert again.subjects == ("anna", "bob", "zoe")
    assert np.array_equal(first.chips[:2], again.chips[:2])


def test_a_torn_chip_is_cut_again(people, tmp_path):
    first = load(people, tmp_path)
    for path in (tmp_path / "cache").rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:-7])
    assert np.array_equal(load(people, tmp_path).chips, first.chips)


def test_bad_images_are_listed_and_remembered(people, tmp_path):
    (people / "ann" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (people / "ann" / "empty.png").write_bytes(b"")
    picture(people / "loose.png", 1)
    for _ in range(2):
        data = load(people, tmp_path)
        assert len(data) == 5
        assert [Path(f.path).name for f in data.failures] == ["broken.jpg", "empty.png"]
        assert all(isinstance(f, UnreadableImage) for f in data.failures)


def test_a_photo_without_a_face_is_remembered(people, tmp_path):
    for _ in range(2):
        with pytest.raises(BadInput, match="no face"):
            training_data.load(people, SPEC, cache_dir=tmp_path / "cache")
    cutter = ChipCache(SPEC, tmp_path / "cache", False, 40, Choice())
    assert isinstance(cutter(people / "ann" / "1.png")[1], NoFace)


@pytest.mark.parametrize("text", ["{", "3", "[1]", '["no_face", "no face", ""', '["no_face", "", ""]'])
def test_a_reason_that_is_not_whole_on_the_disk_is_sought_again(people, tmp_path, text):
    cutter = ChipCache(SPEC, tmp_path, False, 40, Choice())
    photo = people / "ann" / "1.png"
    _, error = cutter(photo)
    (file,) = tmp_path.rglob("*.npy")
    np.save(file, np.frombuffer(text.encode(), np.uint8))
    for _ in range(2):
        again = cutter(photo)[1]
        assert (str(again), again.advice) == (str(error), "smaller_face")


@pytest.mark.slow
@pytest.mark.parametrize("faces", ["largest", "center"])
def test_photos_give_the_chips_that_an_embedder_would_see(tmp_path, faces):
    folder = SHARED / "lfw_view1"
    if not folder.exists():
        pytest.skip("the development photos are not on this machine")
    from facecli.templates.embedder import Embedder

    photos = sorted(folder.glob("*/*.jpg"))[:3]
    embedder = Embedder("dlib", cache_dir=tmp_path, faces=faces)
    cutter = ChipCache(base_spec("dlib"), tmp_path, False, 40, Choice(faces))
    chips = np.stack([cutter(path)[1] for path in photos])
    expected = [r.faces[0].embedding for r in embedder.embed((p, None) for p in photos)]
    np.testing.assert_allclose(embedder.templates(chips), expected, atol=1e-6)


def test_what_holds_nothing_to_learn_from(people, tmp_path):
    with pytest.raises(UsageError, match="largest or center"):
        load(people, tmp_path, faces="all")
    with pytest.raises(NoSuchFile):
        load(tmp_path / "gone", tmp_path)
    picture(tmp_path / "loose" / "1.png", 0)
    with pytest.raises(BadInput, match="only 1 loose"):
        load(tmp_path / "loose", tmp_path)


def test_split_shares_no_subject_and_stays_when_people_are_added(tmp_path):
    labels = np.repeat(np.arange(20), 3)
    data = training_data.TrainingSet(
        np.zeros((60, 1, 1, 3), np.uint8), labels, tuple(f"p{k:02d}" for k in range(20)), tuple("d" * 60)
    )
    train, val = training_data.split(data, 0.25, 3)
    assert len(val.subjects) == 5
    assert len(train) + len(val) == 60
    assert not set(train.subjects) & set(val.subjects)
    more = replace(data, subjects=tuple(f"p{k:02d}" for k in range(19)) + ("zz",))
    assert len(set(training_data.split(more, 0.25, 3)[1].subjects) & set(val.subjects)) >= 4
    assert training_data.split(data, 0.25, 4)[1].subjects != val.subjects
    with pytest.raises(BadInput, match="give others for validation"):
        training_data.split(data.of(["p00", "p01"]), 0.25, 0)


def test_sets_from_several_sources_remember_whence(tmp_path):
    def made(names: str, images: int) -> training_data.TrainingSet:
        labels = np.repeat(np.arange(len(names)), images)
        chips = np.full((len(labels), 1, 1, 3), ord(names[0]), np.uint8)
        return training_data.TrainingSet(
            chips, labels, tuple(names), tuple(f"{n}{k}" for k, n in enumerate(labels))
        )

    data = training_data.together([made("abc", 2), made("xy", 3)])
    assert data.names == list("aabbccxxxyyy")
    assert data.chips[:, 0, 0, 0].tolist() == [97] * 6 + [120] * 6
    assert data.sources == (0, 0, 0, 1, 1)
    assert data.of(["y", "b"]).sources == (0, 1)
    with pytest.raises(BadInput, match="'c' is in two"):
        training_data.together([made("abc", 2), made("cd", 1)])


def test_idx_files(tmp_path):
    pixels = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    raw = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28)) + pixels.tobytes()
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(gzip.compress(raw))
    assert np.array_equal(training_data.read_idx(tmp_path / "x-images-idx3-ubyte.gz"), pixels)
    for bad in (raw[:-1], b"\0\0\x08\x02" + raw[4:], gzip.compress(raw)[:-9], b""):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(BadInput):
            training_data.read_idx(tmp_path / "bad")


CHIPS = np.random.default_rng(0).integers(0, 256, (6, 25, 25, 3)).astype(np.uint8)


def test_no_augmentation_changes_nothing():
    x = augment.augment(CHIPS, strength("none"), augment.draw(6, torch.Generator()))
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), CHIPS)


@pytest.mark.parametrize("name", [n for n in STRENGTHS if n != "none"])
def test_augmentation_is_that_of_its_numbers(name):
    """Same numbers, same chips; a part of the batch is varied like the whole."""
    how = strength(name)
    chance = augment.draw(6, torch.Generator().manual_seed(1))
    whole = augment.augment(CHIPS, how, chance)
    assert torch.equal(whole, augment.augment(CHIPS, how, chance))
    part = augment.augment(CHIPS[2:5], how, chance[2:5])
    torch.testing.assert_close(part, whole[2:5], atol=1e-3, rtol=0)
    assert not np.array_equal(whole.permute(0, 2, 3, 1).numpy(), CHIPS)
    assert whole.min() >= 0
    assert whole.max() <= 255.01


def test_flip_mirrors_half_of_the_chips():
    chance = augment.draw(400, torch.Generator().manual_seed(0))
    chips = np.repeat(CHIPS[:1], 400, axis=0)
    x = augment.augment(chips, strength("flip"), chance).permute(0, 2, 3, 1).numpy()
    mirrored = np.array([np.array_equal(row, CHIPS[0][:, ::-1]) for row in x])
    same = np.array([np.array_equal(row, CHIPS[0]) for row in x])
    assert (mirrored ^ same).all()
    assert 160 < mirrored.sum() < 240


def test_shift_moves_the_picture_by_pixels():
    how = Augmentation(shift=0.08)
    chance = torch.full((1, augment.DRAWS), 0.5)
    chance[0, 3] = 1.0
    x = augment.augment(CHIPS[:1], how, chance)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(x[:, :-2], CHIPS[0][:, 2:], atol=1e-2)


def test_jpeg_and_occlusion_and_blur_touch_what_they_choose():
    chance = torch.full((2, augment.DRAWS), 0.5)
    for field, column, chosen in (("jpeg", 8, 0.99), ("blur", 8, 0.01), ("occlusion", 13, 0.01)):
        chance[:, column] = 0.5
        chance[1, column] = chosen
        x = augment.augment(CHIPS[:2], Augmentation(**{field: 0.1}), chance)
        x = x.permute(0, 2, 3, 1).numpy()
        assert np.array_equal(x[0], CHIPS[0])
        assert not np.array_equal(x[1], CHIPS[1])
    with pytest.raises(UsageError):
        strength("wild")


def test_schedule_warms_up_and_falls():
    factors = [rate(step, 100, 10) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))
    assert 0 < factors[-1] < 0.02
    assert rate(0, 1, 0) == 1.0


ARCHITECTURE = {"base": "small-cnn", "dim": 8, "width": 4}


@pytest.mark.parametrize(
    ("policy", "learning"), [("none", 5), ("all-but-head", 1), ("1-last-blocks", 2), ("3-last-blocks", 4)]
)
def test_frozen_blocks_do_not_move(policy, learning):
    """Neither weights nor the statistics of batch norms."""
    module = architectures.build(ARCHITECTURE)
    parts = freeze.blocks(module, ARCHITECTURE)
    assert len(parts) == 5
    count = freeze.learning_blocks(policy, len(parts), 1, 10)
    assert count == learning
    freeze.apply(module, parts, count)
    freeze.train_mode(module, parts, count)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0, weight_decay=0.1)
    module(torch.randn(4, 3, 24, 24)).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {f"stages.{k}" for k in range(5 - learning)}
    assert not any(name.rsplit(".", 2)[0] in frozen for name in moved)
    assert "embedding.weight" in moved
    if learning > 1:
        assert any(name.startswith("stages.3") and "running_mean" in name for name in moved)
    expected = sum(p.numel() for part in parts[5 - learning :] for layer in part for p in layer.parameters())
    assert freeze.trainable(module) == expected


def test_gradual_thaws_down_to_the_input_by_half_way():
    counts = [freeze.learning_blocks("gradual", 7, epoch, 10) for epoch in range(1, 11)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[4:] == [7] * 6
    assert freeze.learning_blocks("gradual", 7, 1, 1) == 7
    with pytest.raises(UsageError):
        freeze.learning_blocks("some", 7, 1, 1)


def test_parameters_of_the_head_alone():
    """Of facenet-pytorch's network: 1,792 x 512 weights and a batch norm of 512."""
    for base in ("casia-webface", "vggface2"):
        module = architectures.build({"base": base})
        parts = freeze.blocks(module, {"base": base})
        freeze.apply(module, parts, 1)
        assert freeze.trainable(module) == 918_528
    module = architectures.build({"base": "dlib"})
    parts = freeze.blocks(module, {"base": "dlib"})
    assert len(parts) == 16
    freeze.apply(module, parts, 1)
    assert freeze.trainable(module) == 256 * 128


@pytest.mark.parametrize("base", ["small-cnn", "dlib", "torchvision:resnet18", "torchvision:squeezenet1_0"])
def test_blocks_cover_every_parameter_once(base):
    architecture = {"base": base, "head": [16]}
    module = architectures.build(architecture)
    parts = freeze.blocks(module, architecture)
    seen = [id(p) for part in parts for layer in part for p in layer.parameters()]
    assert sorted(seen) == sorted(id(p) for p in module.parameters())
    assert parts[-1] == [module.head]
    with pytest.raises(UsageError, match="put one on by its dim"):
        freeze.blocks(architectures.build({"base": "torchvision:resnet18"}), {"base": "torchvision:resnet18"})


def test_head_and_base_learn_at_their_own_rates():
    config = TrainConfig(
        data=Path(),
        out=Path("run"),
        base="torchvision:resnet18",
        dim=8,
        pretrained=False,
        lr=1.0,
        base_lr_factor=0.25,
        loss="arcface",
        loss_lr_factor=3.0,
    )
    begun = start(config, cache_dir=Path())
    loss = recipe.loss_for(config, begun, 4)
    rates = {}
    for group in recipe.optimizer_for(config, begun, loss).param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = (group["lr"], group["weight_decay"])
    assert rates[id(begun.module.head[0].weight)] == (1.0, config.weight_decay)
    assert rates[id(begun.module.head[0].bias)] == (1.0, 0.0)
    assert rates[id(begun.module.base.conv1.weight)] == (0.25, config.weight_decay)
    assert rates[id(begun.module.base.bn1.weight)] == (0.25, 0.0)
    assert rates[id(loss.weight)] == (3.0, 0.0)
    assert len(rates) == sum(1 for _ in begun.module.parameters()) + 1


def test_channel_order_and_scaling_reach_the_network():
    spec = replace(SPEC, channel_order="BGR", mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    x = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    assert normalised(x, spec).flatten().tolist() == [14.5, 4.5, 0.875]


def record(epoch: int, **figures) -> dict:
    return {"epoch": epoch, "loss": 1.0, "spread": 0.9, "active_fraction": 0.5, "eer": 0.1, "headline": "eer",
            "mean_negative_distance": 1.2, **figures}  # fmt: skip


def codes(found: list[Alarm]) -> list[str]:
    return [alarm.code for alarm in found]


def test_alarms_name_the_cause():
    def after(*history, can_run_dry=True):
        return codes(alarms.after(history, can_run_dry=can_run_dry, headline="eer"))

    assert after(record(0), record(1)) == []
    assert after(record(0), record(1, spread=0.001, active_fraction=1.0, loss=0.2)) == ["collapsed"]
    assert after(record(0), record(1, active_fraction=0.001)) == ["nothing_active"]
    assert after(record(0), record(1, active_fraction=0.0), can_run_dry=False) == []
    assert after(record(0), record(1, eer=0.47)) == ["tells_nobody_apart"]
    falling = [record(k, loss=1.0 - 0.1 * k, eer=0.1) for k in range(6)]
    assert after(*falling) == ["validation_not_following"]
    assert after(*falling[:-1], record(5, loss=0.5, eer=0.09)) == []
    assert after(*[record(k, eer=0.1) for k in range(6)]) == []
    # Nobody can do better than perfect; who was perfect and is no longer has cause for alarm.
    assert after(*[record(k, loss=1.0 - 0.1 * k, eer=0.0) for k in range(6)]) == []
    lost = [record(k, loss=1.0 - 0.1 * k, eer=0.0 if k < 3 else 0.2) for k in range(6)]
    assert after(*lost) == ["validation_not_following"]


def test_alarms_before_and_at_the_end():
    assert codes(alarms.before(15, 600, 5, from_scratch=False)) == ["few_people", "few_to_validate"]
    assert codes(alarms.before(300, 900, 40, from_scratch=True)) == []
    history = [record(0), record(1)]
    assert codes(alarms.at_end(history, {"epoch": 0}, None, None)) == ["not_better"]
    unsure, sure = Measure(0.01, -0.01, 0.03), Measure(0.02, 0.01, 0.03)
    assert codes(alarms.at_end(history, {"epoch": 1}, unsure, 1e-3)) == ["not_surely_better"]
    assert codes(alarms.at_end(history, {"epoch": 1}, sure, 1e-3)) == []


def templates(people: int, images: int, noise: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((people, 16)), images, axis=0)
    rows = centres + noise * rng.standard_normal(centres.shape)
    names = [f"p{k // images}" for k in range(len(rows))]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), names


def test_verification_by_loops():
    rows, names = templates(20, 4, 0.9)
    found = validation.verification(rows, names)
    s = rows.astype(np.float64) @ rows.T.astype(np.float64)
    mated = [s[i, j] for i in range(80) for j in range(i) if names[i] == names[j]]
    nonmated = sorted((s[i, j] for i in range(80) for j in range(i) if names[i] != names[j]), reverse=True)
    assert (found.n_mated, found.n_nonmated) == (len(mated), len(nonmated)) == (120, 3040)
    allowed = nonmated[: int(len(nonmated) * 1e-2) + 1][-1]
    assert found.tar[1e-2].value == pytest.approx(np.mean([x > allowed for x in mated]))
    assert found.tar[1e-4] is None
    first = [max((s[i, j], j) for j in range(80) if j != i)[1] for i in range(80)]
    assert found.rank1.value == np.mean([names[i] == names[j] for i, j in enumerate(first)])
    for measure in (found.eer, found.tar[1e-2], found.rank1, found.map_at_r):
        assert measure.low <= measure.value <= measure.high
        assert measure.low < measure.high
    assert found.headline == "tar_at_fmr_1e-2"
    assert found.record()["tar_at_fmr_1e-4"] is None
    assert found.record()["tar_at_fmr_1e-3"] == found.tar[1e-3].value


def test_verification_ranks_a_better_network_higher():
    ranks = [validation.verification(*templates(12, 4, noise)).rank() for noise in (0.3, 0.8, 2.0)]
    assert ranks == sorted(ranks, reverse=True)


def test_gain_is_paired():
    """The same templates twice differ by exactly nothing, however few people there are."""
    rows, names = templates(20, 4, 0.9)
    same = validation.tar_gain(rows, rows, names, 1e-2)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better, _ = templates(20, 4, 0.5)
    gain = validation.tar_gain(rows, better, names, 1e-2)
    assert gain.low > 0
    assert gain.low <= gain.value <= gain.high
    with pytest.raises(BadInput):
        validation.tar_gain(rows, better, names, 1e-5)


def test_people_without_a_mate_are_left_out_of_retrieval():
    i, j = np.arange(12)[:, None], np.arange(6)[None]
    rows = np.sin(1.7 * (i // 3) * (j + 1)) + 0.55 * np.cos(2.3 * i + 0.9 * j * j)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.arange(12) // 3
    found = retrieval(rows, labels)
    figures = (found.precision_at_1, found.map_at_r, found.r_precision, found.reciprocal_rank)
    assert [x.mean() for x in figures] == pytest.approx([0.75, 0.708333, 0.708333, 0.791997], abs=1e-6)
    labels[11] = 99
    lone = retrieval(rows, labels)
    assert len(lone.subject) == 11
    assert [lone.precision_at_1.mean(), lone.map_at_r.mean()] == pytest.approx([0.636364, 0.590909], abs=1e-6)
    with pytest.raises(BadInput):
        retrieval(rows, np.arange(12))


def test_joined_batch_norm_alone_is_the_usual_one():
    assert distributed.world() == 1
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.BatchNorm1d(16)
    )
    x = torch.randn(5, 3, 4, 4)
    names = list(net.state_dict())
    expected = net(x)
    distributed.join_batch_norms(net)
    assert isinstance(net[1], distributed.JoinedBatchNorm)
    assert isinstance(net[3], distributed.JoinedBatchNorm)
    assert list(net.state_dict()) == names
    torch.testing.assert_close(net(x), expected)


def test_intervals_resample_people():
    """Twice as many images of the same people leave the interval about as wide."""
    few, names = templates(15, 4, 1.2)
    many = np.repeat(few, 2, axis=0)
    doubled = [name for name in names for _ in range(2)]
    widths = [
        (lambda m: m.high - m.low)(validation.verification(rows, who).eer)
        for rows, who in ((few, names), (many, doubled))
    ]
    assert widths[1] > 0.6 * widths[0]


def test_a_base_that_cannot_be_trained_is_refused_before_it_is_fetched(tmp_path):
    with pytest.raises(UsageError, match="'auraface' is published as ONNX"):
        pretrained({"base": "auraface"}, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
