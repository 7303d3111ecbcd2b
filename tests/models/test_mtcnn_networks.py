"""The detector's three networks: the weights without torch, the graphs against facenet-pytorch's classes."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from facecli.errors import WeightsMissing
from facecli.models import mtcnn_networks, runtime

BY_NAME = {stage.name: stage for stage in mtcnn_networks.STAGES}
SIZES = {"pnet": [(1, 12, 12), (1, 13, 47), (2, 120, 91)], "rnet": [(1, 24, 24), (9, 24, 24)]}


@pytest.fixture(scope="module")
def theirs():
    from facenet_pytorch.models import mtcnn as original

    return {name: getattr(original, stage.class_name)().eval() for name, stage in BY_NAME.items()}


@pytest.mark.parametrize("name", BY_NAME)
def test_weights_are_the_ones_that_torch_reads(name, theirs):
    ours = mtcnn_networks.read_weights(BY_NAME[name])
    expected = theirs[name].state_dict()
    assert set(ours) == set(expected)
    for key, values in expected.items():
        np.testing.assert_array_equal(ours[key], values.numpy())


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("name", BY_NAME)
def test_outputs_are_facenet_pytorchs(name, device, theirs, cache_dir):
    run = runtime.load(mtcnn_networks.network(BY_NAME[name]), cache_dir=cache_dir, device=device)
    for count, height, width in SIZES.get(name, [(1, 48, 48), (5, 48, 48)]):
        pixels = np.random.default_rng(height).uniform(0, 255, (count, 3, height, width)).astype(np.float32)
        with torch.no_grad():
            *rest, probability = theirs[name]((torch.from_numpy(pixels) - 127.5) * 0.0078125)
        found = run(pixels)
        assert len(found) == len(rest) + 1
        for ours, expected in zip(found, [probability, *rest], strict=True):
            np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)


def test_rows_do_not_depend_on_the_batch(stages):
    pixels = np.random.default_rng(1).uniform(0, 255, (20, 3, 48, 48)).astype(np.float32)
    together = stages[2](pixels)
    for i in (0, 7, 19):
        for whole, alone in zip(together, stages[2](pixels[i : i + 1]), strict=True):
            np.testing.assert_array_equal(whole[i], alone[0])


def test_altered_weights_are_refused():
    with pytest.raises(WeightsMissing, match=r"pnet\.pt.*SHA-256 differs.*pip install --force-reinstall"):
        mtcnn_networks.read_weights(replace(mtcnn_networks.PROPOSE, sha256="0" * 64))


def test_missing_weights_say_what_to_install():
    with pytest.raises(WeightsMissing, match="pip install 'facenet-pytorch"):
        mtcnn_networks.read_weights(replace(mtcnn_networks.PROPOSE, name="qnet"))


class Trap:
    def __reduce__(self):
        import os

        return os.getenv, ("HOME",)


def test_no_code_in_a_weights_file_is_run():
    with pytest.raises(pickle.UnpicklingError, match="does not belong in a state dict"):
        mtcnn_networks.read_legacy_state(pickle.dumps(Trap()))
