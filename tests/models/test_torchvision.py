"""torchvision's networks with the classifier cut off, initialised by chance."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from facecli.errors import UsageError, WeightsMissing
from facecli.models import registry, runtime
from facecli.models import torchvision as backbones
from facecli.models.built_in import BUILT_IN
from facecli.training.start import pretrained

torch.set_num_threads(1)

DIMS = {
    "resnet18": 512,
    "resnet50": 2048,
    "vgg11": 4096,
    "mobilenet_v3_small": 1024,
    "efficientnet_b0": 1280,
    "inception_v3": 2048,
    "googlenet": 1024,
    "densenet121": 1024,
    "convnext_tiny": 768,
    "vit_b_32": 768,
    "swin_t": 768,
    "regnet_x_400mf": 400,
    "squeezenet1_1": 512,
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub folder."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.slow
@pytest.mark.parametrize("name", DIMS)
def test_what_is_left_returns_the_features_the_classifier_saw(name):
    torch.manual_seed(0)
    module, dim = backbones.backbone(name)
    assert dim == DIMS[name]
    size = 224 if name.startswith(("vit", "swin")) else 96
    with torch.inference_mode():
        features = module.eval()(torch.rand(2, 3, size, size))
    assert isinstance(features, torch.Tensor)
    assert features.shape == (2, dim)


@pytest.mark.slow
def test_every_network_of_torchvision_ends_in_its_classifier():
    """The rule behind the cut, read off the published heads: their last layer has ImageNet's 1,000 outputs."""
    for name in (
        "alexnet",
        "mnasnet0_5",
        "shufflenet_v2_x0_5",
        "mobilenet_v2",
        "efficientnet_v2_s",
        "swin_v2_t",
    ):
        whole = backbones._uncut(name)
        last = [m for m in whole.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)][-1]
        assert getattr(last, "out_features", None) == 1000, name


def test_the_contract_is_torchvisions():
    spec = registry.resolve("torchvision:inception_v3")
    assert (spec.input_size, spec.dim, spec.channel_order, spec.sha256) == (299, 2048, "RGB", "0cc3c7bd")
    np.testing.assert_allclose(spec.mean, [0.485 * 255, 0.456 * 255, 0.406 * 255])
    np.testing.assert_allclose(spec.std, [0.229 * 255, 0.224 * 255, 0.225 * 255])
    assert "do not tell people apart" in spec.warning
    points = np.array(spec.template)
    assert points.shape == (5, 2)
    np.testing.assert_allclose(points / 299, np.array(BUILT_IN["dlib"].template) / 150)


@pytest.mark.parametrize(
    ("name", "hint"), [("mobilenet_v3", "mobilenet_v3_"), ("resnet51", "resnet50"), ("zzzzzz", "vit_b_16")]
)
def test_unknown_names_are_told_the_nearest(name, hint):
    with pytest.raises(UsageError, match=hint):
        registry.resolve(f"torchvision:{name}")


def test_missing_weights_say_what_to_do(hub, tmp_path):
    spec = registry.resolve("torchvision:resnet18")
    assert backbones.FAMILY.locate(spec, tmp_path) is None
    with pytest.raises(WeightsMissing) as caught:
        backbones.FAMILY.network(spec, tmp_path, None, None)
    for part in (spec.weights, str(tmp_path), "give its path as weights"):
        assert part in str(caught.value)


def published(hub: Path, name: str, monkeypatch) -> tuple[torch.nn.Module, Path]:
    """Put a state dict with auxiliary heads and classifier where torchvision keeps it; its digits are its own."""
    torch.manual_seed(1)
    options = {"init_weights": False} if name == "googlenet" else {}
    whole = torchvision.models.get_model(name, weights=None, **options)
    path = hub / "unnamed.pth"
    path.parent.mkdir(parents=True)
    torch.save(whole.state_dict(), path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path = path.rename(hub / f"{name}-{digits}.pth")
    found = backbones._weights(name)
    monkeypatch.setattr(
        backbones,
        "_weights",
        lambda short: type(found.value)(f"https://example.org/{path.name}", found.transforms, found.meta),
    )
    return whole, path


@pytest.mark.slow
def test_weights_in_torch_hubs_folder_are_found_checked_and_cut(hub, tmp_path, monkeypatch):
    whole, path = published(hub, "googlenet", monkeypatch)
    spec = replace(registry.resolve("torchvision:googlenet"), input_size=64)
    assert backbones.FAMILY.locate(spec, tmp_path) == path
    network = registry.load_network(spec, cache_dir=tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    (features,) = runtime.load(network, cache_dir=tmp_path, device="torch")(x)
    assert features.shape == (2, 1024)

    # Through the classifier that was cut off, the features give the whole network's answer.
    whole.eval().transform_input = True
    with torch.inference_mode():
        theirs = whole(torch.from_numpy(x)).numpy()
        ours = whole.fc(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)

    module = pretrained({"base": "torchvision:googlenet"}, cache_dir=tmp_path)
    assert torch.equal(module.conv1.conv.weight, whole.conv1.conv.weight)

    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        registry.load_network(spec, cache_dir=tmp_path)
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        pretrained({"base": "torchvision:googlenet"}, cache_dir=tmp_path)


@pytest.mark.slow
def test_export_agrees_whatever_the_batch(hub, tmp_path, monkeypatch):
    published(hub, "squeezenet1_1", monkeypatch)
    spec = replace(registry.resolve("torchvision:squeezenet1_1"), input_size=64)
    network = registry.load_network(spec, cache_dir=tmp_path)
    x = np.random.default_rng(0).standard_normal((5, 3, 64, 64)).astype(np.float32)
    on_ort = runtime.load(network, cache_dir=tmp_path)
    (together,) = on_ort(x)
    np.testing.assert_allclose(
        together, runtime.load(network, cache_dir=tmp_path, device="torch")(x)[0], rtol=0, atol=1e-4
    )
    np.testing.assert_array_equal(together, np.concatenate([on_ort(x[:2])[0], on_ort(x[2:])[0]]))
