"""ONNX files and their contracts: real small graphs, run by ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facecli.errors import BadInput, NoSuchFile, UsageError, WeightsMissing
from facecli.models import onnx_file, registry, runtime
from facecli.models.spec import KnownAnswer

SIZE, DIM = 8, 6
WEIGHTS = np.random.default_rng(1).standard_normal((3 * SIZE * SIZE, DIM)).astype(np.float32)
ARCFACE = {"format": "facecli-onnx", "version": 1, "preset": "arcface112"}
CONTRACT = {
    "format": "facecli-onnx",
    "version": 1,
    "input_size": SIZE,
    "channel_order": "BGR",
    "mean": [1, 2.5, 3],
    "std": 128,
    "template": [[2, 3], [6, 3], [4, 5], [3, 6], [5, 6]],
    "mirror": True,
    "licence": "ours",
}


def write(
    path: Path, *, batch="N", channels=3, fixed_reshape=False, outputs=("embedding",), out_dim=DIM, **saving
):
    """A network that flattens and multiplies; `batch` a name or a number."""
    shape = helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, channels, SIZE, SIZE])
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["data", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
            helper.make_node("Neg", ["embedding"], ["negated"]),
        ],
        "test",
        [shape],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, out_dim]) for name in outputs],
        [
            numpy_helper.from_array(np.array([1 if fixed_reshape else 0, 3 * SIZE * SIZE]), "shape"),
            numpy_helper.from_array(WEIGHTS, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, **saving)
    return path


def contract(path: Path, values: dict) -> None:
    path.with_suffix(".json").write_text(json.dumps(values))


@pytest.fixture
def model(tmp_path):
    path = write(tmp_path / "model.onnx")
    contract(path, CONTRACT)
    return path


def test_explicit_contract(model):
    spec = registry.resolve(str(model))
    assert (spec.name, spec.family, spec.dim, spec.input_size) == ("model.onnx", "onnx_file", DIM, SIZE)
    assert (spec.channel_order, spec.mean, spec.std) == ("BGR", (1, 2.5, 3), (128, 128, 128))
    assert spec.template == ((2, 3), (6, 3), (4, 5), (3, 6), (5, 6))
    assert (spec.mirror, spec.licence, spec.crop_margin) == (True, "ours", 0)


def test_arcface_preset_is_moved_to_our_pixel_centres(model):
    contract(model, ARCFACE | {"dim": 512})
    spec = onnx_file.read_spec(model)
    assert (spec.input_size, spec.dim, spec.channel_order, spec.mirror) == (112, 512, "RGB", False)
    assert (spec.mean, spec.std) == ((127.5,) * 3, (127.5,) * 3)
    np.testing.assert_allclose(spec.template[0], (38.7946, 52.1963))
    np.testing.assert_allclose(spec.template[4], (71.2299, 92.7041))


def test_the_file_goes_before_its_preset(model):
    contract(model, ARCFACE | {"dim": 4, "channel_order": "BGR", "mirror": True})
    spec = onnx_file.read_spec(model)
    assert (spec.channel_order, spec.mirror, spec.input_size) == ("BGR", True, 112)


def test_plain_preset_wants_what_differs_from_network_to_network(model):
    plain = {"format": "facecli-onnx", "version": 1, "preset": "plain", "input_size": SIZE}
    contract(model, plain)
    with pytest.raises(BadInput, match="'mean' is missing"):
        onnx_file.read_spec(model)
    contract(model, plain | {"mean": 0, "std": 255, "crop_margin": 0.1})
    spec = onnx_file.read_spec(model)
    assert (spec.template, spec.crop_margin, spec.std) == (None, 0.1, (255, 255, 255))


def test_missing_contract_shows_one_that_can_be_pasted(model):
    model.with_suffix(".json").unlink()
    with pytest.raises(BadInput, match="model.json is missing") as caught:
        onnx_file.read_spec(model)
    short, long = caught.value.hint.removeprefix("say how the network wants its faces, for example ").split(
        " or "
    )
    for example in (short, long):
        contract(model, json.loads(example))
        assert onnx_file.read_spec(model).input_size == 112


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "'format' is 'other'"),
        ({"version": 2}, "'version' is 2"),
        ({"preset": "arcface"}, "'preset' must be arcface112 or plain"),
        ({"input_size": 0}, "'input_size' must be a whole number above zero"),
        ({"input_size": "8"}, "'input_size' must be a whole number"),
        ({"input_size": True}, "'input_size' must be a whole number"),
        ({"input_size": 20000}, "'input_size' must be at most 1024, not 20000"),
        ({"input_size": 10**400}, "'input_size' must be at most 1024, not 1"),
        ({"mean": 1e308}, "'mean' must be between -1e+06 and 1e+06"),
        ({"mean": [0, 0, -1e38]}, "'mean' must be between"),
        ({"std": 1e-320}, "'std' must be between 1e-06 and 1e+06"),
        ({"std": [1, 1e300, 1]}, "'std' must be between"),
        ({"crop_margin": 1e9}, "'crop_margin' must be at most 10"),
        ({"template": [[1e308, 0]] * 5}, "'template' must lie on the chip"),
        ({"template": [[-99, 0], [3, 3], [4, 4], [5, 5], [6, 6]]}, "'template' must lie on the chip"),
        ({"template": [[4, 4]] * 5}, "'template' must be points apart"),
        ({"dim": 10**9}, "'dim' must be at most 8192"),
        ({"mirror": "x" * 100_000}, "'mirror' must be true or false, not \"xxx"),
        ({"channel_order": ["x"] * 100_000}, "'channel_order' must be a text, not [\"x\""),
        ({"channel_order": "GBR"}, "'channel_order' must be RGB or BGR"),
        ({"mean": [1, 2]}, "'mean' must be a number or three, not 2"),
        ({"mean": "1"}, "'mean' must be a number"),
        ({"std": [1, 0, 1]}, "'std' must be above zero"),
        ({"std": float("nan")}, "is not JSON (NaN is not a number)"),
        ({"std": 10**400}, "'std' must be a number"),
        ({"template": [[1, 2]]}, "'template' must be five"),
        ({"template": [[1, 2]] * 4 + [[1]]}, "'template' must hold"),
        ({"template": "arcface"}, "'template' must be five"),
        ({"mirror": 1}, "'mirror' must be true or false"),
        ({"crop_margin": -1}, "'crop_margin' must not be below zero"),
        ({"dim": 0}, "'dim' must be"),
        ({"output": 3}, "'output' must be a text"),
        ({"output": "nope"}, "has no output 'nope'"),
        ({"colour": "RGB"}, "unknown key 'colour'"),
        ({"known_answer": []}, "known_answer must be a JSON object"),
        ({"known_answer": {"image": "a.png"}}, "'known_answer.embedding' is missing"),
        ({"known_answer": {"image": "a.png", "embedding": [1], "x": 1}}, "unknown key 'known_answer.x'"),
        ({"dim": 2, "known_answer": {"image": "a.png", "embedding": [1]}}, "has 1 numbers, 'dim' is 2"),
    ],
)
def test_faults_name_file_and_key(model, change, says):
    contract(model, CONTRACT | change)
    with pytest.raises(BadInput) as caught:
        onnx_file.read_spec(model)
    assert says in str(caught.value)
    assert "model." in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"\xff\xfe", b"3", b"[" * 100_000, b'{"dim": 1' + b"0" * 5000 + b"}", b'{"a":' * 9999],
)
def test_contracts_that_are_no_objects(model, text):
    model.with_suffix(".json").write_bytes(text)
    with pytest.raises(BadInput, match="model.json"):
        onnx_file.read_spec(model)


def test_known_answer(model):
    assert onnx_file.FAMILY.known_answer(onnx_file.read_spec(model)) is None
    contract(model, CONTRACT | {"known_answer": {"image": "chip.png", "embedding": [0.5] * DIM}})
    answer = onnx_file.FAMILY.known_answer(onnx_file.read_spec(model))
    assert answer == KnownAnswer(model.parent / "chip.png", (0.5,) * DIM)


@pytest.mark.parametrize("batch", ["N", 1])
def test_it_runs_on_any_batch_even_where_the_file_says_one(tmp_path, batch):
    path = write(tmp_path / "model.onnx", batch=batch)
    contract(path, CONTRACT)
    spec = onnx_file.read_spec(path)
    network = registry.load_network(spec, cache_dir=tmp_path)
    x = np.random.default_rng(2).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)
    (ours,) = runtime.load(network, cache_dir=tmp_path)(x)
    np.testing.assert_allclose(ours, x.reshape(5, -1) @ WEIGHTS, atol=1e-4)


@pytest.mark.parametrize("target", [(1, 3 * SIZE * SIZE), (1, -1)])
def test_a_network_fixed_to_one_face_runs_one_at_a_time(tmp_path, target):
    path = write(tmp_path / "model.onnx", batch=1)
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(target), "shape"))
    onnx.save(model, path)
    contract(path, CONTRACT)
    network = registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path)
    x = np.random.default_rng(2).standard_normal((5, 3, SIZE, SIZE)).astype(np.float32)
    (ours,) = runtime.load(network, cache_dir=tmp_path)(x)
    np.testing.assert_allclose(ours, x.reshape(5, -1) @ WEIGHTS, atol=1e-4)


def test_constants_and_leftovers_among_the_inputs_are_no_inputs(tmp_path):
    path = write(tmp_path / "model.onnx")
    model = onnx.load(path)
    for name, shape in (("weights", WEIGHTS.shape), ("shape", (2,)), ("leftover", (3,))):
        kind = TensorProto.INT64 if name == "shape" else TensorProto.FLOAT
        model.graph.input.insert(0, helper.make_tensor_value_info(name, kind, shape))
    onnx.save(model, path)
    contract(path, CONTRACT)
    network = registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path)
    x = np.ones((2, 3, SIZE, SIZE), np.float32)
    np.testing.assert_allclose(
        runtime.load(network, cache_dir=tmp_path)(x)[0], x.reshape(2, -1) @ WEIGHTS, atol=1e-4
    )
    model.graph.node[2].input.append("leftover")
    model.graph.node[2].op_type = "Add"
    onnx.save(model, path)
    contract(path, CONTRACT | {"output": "embedding"})
    with pytest.raises(BadInput, match=r"2 inputs where one is expected \(leftover, data\)"):
        registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path).onnx()


def test_opencvs_file_runs_as_it_is(tmp_path, cache_dir):
    wheel = registry.family(registry.resolve("sface")).locate(registry.resolve("sface"), cache_dir)
    path = tmp_path / "zoo.onnx"
    path.symlink_to(wheel)
    contract(path, {"preset": "arcface112", "mean": 0, "std": 1})
    chips = np.random.default_rng(3).integers(0, 256, (3, 3, 112, 112)).astype(np.float32)
    ours, named = (
        runtime.load(registry.load_network(registry.resolve(name), cache_dir=cache_dir), cache_dir=cache_dir)(
            chips
        )
        for name in (str(path), "sface")
    )
    np.testing.assert_allclose(ours[0], named[0], atol=1e-5)


def test_a_preset_alone_is_a_contract(model):
    contract(model, {"preset": "arcface112"})
    assert onnx_file.read_spec(model).template == registry.resolve("sface").template


def test_one_of_several_outputs(tmp_path):
    path = write(tmp_path / "model.onnx", outputs=("embedding", "negated"))
    contract(path, CONTRACT)
    with pytest.raises(BadInput, match="several outputs.*embedding, negated"):
        onnx_file.read_spec(path)
    x = np.ones((1, 3, SIZE, SIZE), np.float32)
    results, keys = [], []
    for name in ("embedding", "negated"):
        contract(path, CONTRACT | {"output": name})
        network = registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path)
        keys.append(network.key)
        outputs = runtime.load(network, cache_dir=tmp_path)(x)
        assert len(outputs) == 1
        results.append(outputs[0])
    np.testing.assert_array_equal(results[0], -results[1])
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("making", "change", "says"),
    [
        ({"fixed_reshape": True}, {}, "cannot run the network on a batch"),
        ({}, {"input_size": 112}, r"takes \[N, 3, 8, 8\], the contract gives \[N, 3, 112, 112\]"),
        ({"channels": 1}, {}, r"takes \[N, 1, 8, 8\]"),
        ({}, {"dim": 5}, r"output of \[3, 6\] where \[3, 5\]"),
    ],
)
def test_what_the_graph_says_is_checked_when_it_is_prepared(tmp_path, making, change, says):
    path = write(tmp_path / "model.onnx", **making)
    contract(path, CONTRACT | change)
    network = registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path)
    with pytest.raises(BadInput, match=says):
        runtime.load(network, cache_dir=tmp_path)
    assert not runtime.onnx_path(network, tmp_path).exists()


def test_unknown_dimension_is_asked_for(tmp_path):
    path = write(tmp_path / "model.onnx", out_dim="D")
    contract(path, CONTRACT)
    with pytest.raises(BadInput, match='give it as "dim" in model.json'):
        onnx_file.read_spec(path)
    contract(path, CONTRACT | {"dim": DIM})
    assert onnx_file.read_spec(path).dim == DIM


def test_weights_in_a_second_file_are_refused_with_the_remedy(tmp_path):
    path = write(tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    contract(path, CONTRACT)
    with pytest.raises(BadInput, match="second file.*onnx.save"):
        onnx_file.read_spec(path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 130\n"


@pytest.mark.parametrize("change", [{}, {"dim": 4}])
def test_a_git_lfs_pointer_is_called_one(change, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(POINTER)
    contract(path, CONTRACT | change)
    with pytest.raises(
        WeightsMissing, match=r"model.onnx: is a Git LFS pointer and no weights; 'git lfs pull'"
    ):
        registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path)


@pytest.mark.parametrize("weights", [np.nan, np.inf])
def test_a_network_of_what_is_not_finite_is_refused_when_it_is_prepared(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "WEIGHTS", np.full_like(WEIGHTS, weights))
    path = write(tmp_path / "model.onnx")
    contract(path, CONTRACT)
    network = registry.load_network(onnx_file.read_spec(path), cache_dir=tmp_path)
    with pytest.raises(BadInput, match="model.onnx: the network gives numbers that are not finite"):
        runtime.export(network, cache_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello world, no onnx", b"\x00" * 100])
def test_files_that_are_not_onnx(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    contract(path, CONTRACT)
    with pytest.raises(BadInput, match="model.onnx: .*ONNX file"):
        onnx_file.read_spec(path)


def test_missing_file(tmp_path):
    with pytest.raises(NoSuchFile):
        registry.resolve(str(tmp_path / "none.onnx"))


def test_the_key_follows_the_bytes_and_torch_is_refused(model, tmp_path):
    spec = onnx_file.read_spec(model)
    network = onnx_file.FAMILY.network(spec, tmp_path, None, None)
    with pytest.raises(UsageError, match="run it on the device cpu"):
        network.torch()
    with pytest.raises(UsageError, match="leave weights out"):
        onnx_file.FAMILY.network(spec, tmp_path, model, None)
    changed = onnx.load(model)
    changed.producer_name = "someone else"
    onnx.save(changed, model)
    assert onnx_file.FAMILY.network(spec, tmp_path, None, None).key != network.key
