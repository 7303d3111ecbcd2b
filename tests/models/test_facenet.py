"""The FaceNet family against facenet-pytorch on the same weights, initialised by chance."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1, fixed_image_standardization

from facecli.errors import WeightsMissing
from facecli.models import facenet, runtime
from facecli.models.built_in import BUILT_IN
from facecli.templates.embedder import prepare

torch.set_num_threads(1)
SPEC = BUILT_IN["casia-webface"]


@pytest.fixture(scope="module")
def original():
    """facenet-pytorch's network as it is published: with a classification layer over the embedding."""
    torch.manual_seed(7)
    module = InceptionResnetV1(pretrained=None, classify=True, num_classes=11)
    for name, values in module.named_buffers():
        # Running statistics other than the initial 0 and 1, so that a lost buffer shows.
        if name.endswith("running_mean"):
            values.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2.0)
    return module.eval()


@pytest.fixture(scope="module")
def weights(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "facenet.pt"
    torch.save(original.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def chips(n: int) -> np.ndarray:
    """uint8 [N, 160, 160, 3]."""
    return np.random.default_rng(3).integers(0, 256, (n, 160, 160, 3), dtype=np.uint8)


def prepared(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(prepare(pixels, SPEC))


def test_preprocessing_is_the_fixed_standardisation():
    pixels = chips(2)
    theirs = fixed_image_standardization(torch.from_numpy(pixels).float().permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(prepared(pixels), theirs, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_forward_is_facenet_pytorchs(original, weights, cache):
    x = torch.from_numpy(prepared(chips(3)))
    with torch.inference_mode():
        original.classify = False
        theirs = original(x).numpy()
        original.classify = True
    run = runtime.load(facenet.FAMILY.network(SPEC, cache, weights, None), cache_dir=cache, device="torch")
    (ours,) = run(x.numpy())
    assert ours.shape == (3, SPEC.dim)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_onnx_agrees_and_rows_do_not_depend_on_the_batch(weights, cache, capfd, caplog):
    network = facenet.FAMILY.network(SPEC, cache, weights, None)
    on_torch = runtime.load(network, cache_dir=cache, device="torch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        on_ort = runtime.load(network, cache_dir=cache)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    x = prepared(chips(5))
    (together,) = on_ort(x)
    np.testing.assert_allclose(together, on_torch(x)[0], rtol=0, atol=1e-4)
    apart = np.concatenate([on_ort(x[:1])[0], on_ort(x[1:])[0]])
    np.testing.assert_array_equal(together, apart)


@pytest.mark.slow
def test_files_without_the_classifier_load_too(original, tmp_path):
    state = {k: v for k, v in original.state_dict().items() if not k.startswith("logits.")}
    torch.save(state, tmp_path / "bare.pt")
    with torch.inference_mode():
        x = torch.from_numpy(prepared(chips(1)))
        original.classify = False
        theirs = original(x)
        original.classify = True
        assert torch.equal(facenet.build(tmp_path / "bare.pt")(x), theirs)


def test_the_key_follows_the_weights_and_not_the_place(weights, cache, tmp_path):
    key = facenet.FAMILY.network(SPEC, cache, weights, None).key
    copy = tmp_path / "copy.pt"
    copy.write_bytes(weights.read_bytes())
    assert facenet.FAMILY.network(SPEC, cache, copy, None).key == key
    with open(copy, "ab") as file:
        file.write(b"\0")
    assert facenet.FAMILY.network(SPEC, cache, copy, None).key != key
    assert not list(tmp_path.glob("*.sha256")), "nothing is written into the user's folder"


def test_a_known_digest_is_checked(weights, tmp_path):
    spec = replace(SPEC, sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    assert (
        facenet.FAMILY.network(spec, tmp_path, weights, None).key
        == facenet.FAMILY.network(SPEC, tmp_path, weights, None).key
    )
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        facenet.FAMILY.network(replace(SPEC, sha256="0" * 64), tmp_path, weights, None)


@pytest.mark.slow
def test_a_download_that_was_tampered_with_is_refused(weights, tmp_path):
    place = tmp_path / "weights" / SPEC.weights.rsplit("/", 1)[-1]
    place.parent.mkdir()
    place.write_bytes(weights.read_bytes())
    assert facenet.FAMILY.locate(SPEC, tmp_path) == place
    facenet.FAMILY.network(SPEC, tmp_path, None, None).torch()
    place.write_bytes(weights.read_bytes()[:-1] + b"\7")
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        facenet.FAMILY.network(SPEC, tmp_path, None, None).torch()


def test_missing_weights_say_what_to_do(tmp_path):
    assert facenet.FAMILY.locate(SPEC, tmp_path) is None
    with pytest.raises(WeightsMissing) as caught:
        facenet.FAMILY.network(SPEC, tmp_path, None, None)
    for part in (SPEC.weights, str(tmp_path), "give its path as weights"):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 torn", "other network", "not tensors"])
def test_files_that_are_no_weights(content, tmp_path):
    path = tmp_path / "bad.pt"
    if content == "other network":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    elif content == "not tensors":
        torch.save({"a": 1}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsMissing, match="bad.pt"):
        facenet.build(path)


def test_naming_the_network_imports_no_torch(weights, cache):
    code = (
        "import sys; from pathlib import Path; from facecli.models import registry\n"
        "registry.load_network(registry.resolve('casia-webface'), cache_dir=Path(sys.argv[1]),"
        " weights=Path(sys.argv[2]))\n"
        "print([m for m in ('torch', 'facenet_pytorch', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, cache, weights], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
