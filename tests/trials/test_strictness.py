"""Comparisons are scored by what a similarity leaves above the smaller strictness of its two faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecli.evaluation.identification import evaluate_database
from facecli.trials.pairs import PairSet
from facecli.trials.samples import Samples
from facecli.trials.scored import cross_of, listed_scores

N, DIM = 40, 6


def samples(strictness=None):
    templates = np.random.default_rng(3).standard_normal((N, DIM)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    paths = tuple(f"p{k // 4}/{k}.jpg" for k in range(N))
    return Samples(paths, tuple(path[:2] for path in paths), ("",) * N, templates, strictness=strictness)


def test_cross_and_listed_scores_are_those_of_every_pair_by_hand():
    strictness = np.where(np.arange(N) % 3 == 0, 0.0, np.random.default_rng(4).random(N)).astype(np.float32)
    some = samples(strictness)
    i, j = np.triu_indices(N, 1)
    by_hand = (some.templates @ some.templates.T)[i, j] - np.minimum(strictness[i], strictness[j])
    np.testing.assert_allclose(cross_of(some).comparisons.similarity, by_hand, atol=1e-6)
    pairs = PairSet(
        tuple(some.paths[k] for k in i), tuple(some.paths[k] for k in j), Path(), np.equal(i // 4, j // 4)
    )
    np.testing.assert_allclose(listed_scores(some, pairs).comparisons.similarity, by_hand, atol=1e-6)


def test_faces_without_faults_score_as_they_did():
    plain, zero = samples(), samples(np.zeros(N, np.float32))
    np.testing.assert_array_equal(
        cross_of(plain).comparisons.similarity, cross_of(zero).comparisons.similarity
    )


def test_searches_of_a_database_are_stricter_too():
    searched = evaluate_database(samples(np.full(N, 0.25, np.float32)), replicates=10).searches
    plain = evaluate_database(samples(), replicates=10).searches
    np.testing.assert_allclose(searched.mate, plain.mate - 0.25, atol=1e-6)
    np.testing.assert_allclose(searched.other, plain.other - 0.25, atol=1e-6)
