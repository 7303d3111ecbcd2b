"""The order that a network learnt is found on faces that come with the package."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facecli.models.built_in import BUILT_IN
from facecli.templates.channel_order import doubt, noisy_faces, separation
from facecli.templates.embedder import Embedder


@pytest.mark.parametrize("model", ["sface", pytest.param("dlib", marks=pytest.mark.slow)])
def test_the_wrong_order_is_doubted_and_the_right_one_is_not(model, cache_dir):
    embedder = Embedder(model, cache_dir=cache_dir, aligned=True)
    assert doubt(embedder) is None
    embedder.spec = replace(embedder.spec, channel_order="BGR")
    said = doubt(embedder)
    assert said is not None
    assert said.startswith("channel_order is BGR, but RGB tells people apart better")


def test_a_network_that_knows_no_faces_is_not_judged(cache_dir, monkeypatch):
    embedder = Embedder("sface", cache_dir=cache_dir, aligned=True)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(embedder, "templates", lambda chips: rng.standard_normal((len(chips), 8)))
    assert doubt(embedder) is None


def test_faces_are_cut_as_the_contract_says():
    spec = BUILT_IN["dlib"]
    chips, people = noisy_faces(spec)
    assert chips.shape == (36, 150, 150, 3)
    assert np.bincount(people).tolist() == [4] * 9
    plain, _ = noisy_faces(replace(spec, template=None, input_size=64))
    assert plain.shape == (36, 64, 64, 3)


def test_separation_is_d_prime():
    people = np.array([0, 0, 1, 1])
    apart = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    assert separation(apart, people) > 10
    assert separation(np.ones((4, 2)), people) == 0
