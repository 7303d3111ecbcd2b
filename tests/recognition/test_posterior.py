"""Probabilities of `find`: over all who are enrolled and nobody, and never against the decision."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecli.calibration.calibration import Calibration
from facecli.calibration.decision import Rule
from facecli.calibration.fit import calibrate, describe
from facecli.gallery.searchable import Candidate
from facecli.recognition.identify import Identified, flatten, identify
from facecli.recognition.posterior import posterior
from facecli.stats.comparisons import Comparisons
from facecli.templates.template import FacePlace, Probe

PLACE = FacePlace(0, 1, (0.0, 0.0, 9.0, 9.0), 1.0)
VECTOR = np.eye(4, dtype=np.float32)[0]
LLRS = st.lists(st.floats(-8, 16), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    rng = np.random.default_rng(3)
    similarity = np.concatenate([rng.normal(0.6, 0.1, 500), rng.normal(0.1, 0.1, 5000)])
    data = Comparisons(similarity, np.arange(similarity.size) < 500)
    return calibrate(data, describe(data, "synthetic"), embedder_id="e")


class People:
    """Enrolled people of given similarity to any probe."""

    root, embedder_id = "people", "e"

    def __init__(self, similarities: list[float]) -> None:
        self._ranked = sorted(similarities, reverse=True)
        self.n_subjects = self.n_samples = len(similarities)

    def search(self, probes, top):
        best = [Candidate(k, f"P{k}", f"P{k}/1.jpg", s) for k, s in enumerate(self._ranked[:top], start=1)]
        return [best for _ in probes]


def found(similarities: list[float], rule: Rule, top: int = 5) -> Identified:
    (answer,) = identify(People(similarities), rule, [Probe("a.jpg", VECTOR, PLACE)], top=top)
    assert isinstance(answer, Identified)
    return answer


@settings(deadline=None)
@given(llrs=LLRS, others=st.integers(0, 10_000), prior=st.floats(0.01, 0.99))
def test_a_posterior_is_bayes_over_everybody(llrs, others, prior):
    everybody = [*llrs, *[min(llrs)] * others]
    odds = [prior / len(everybody) * math.exp(llr) for llr in everybody]
    *probabilities, nobody = posterior(np.array(llrs), others, min(llrs), prior)
    total = 1 - prior + sum(odds)
    assert probabilities == pytest.approx([o / total for o in odds[: len(llrs)]])
    assert nobody == pytest.approx((1 - prior) / total)
    assert sum(probabilities) + nobody <= 1 + 1e-12


@settings(deadline=None)
@given(
    similarities=st.lists(st.floats(-0.3, 0.9), min_size=1, max_size=30),
    threshold=st.sampled_from([-0.2, 0.2, 0.35, 0.5, 0.8]),
    prior=st.sampled_from([0.001, 0.5, 0.999]),
    top=st.integers(1, 6),
)
def test_probabilities_sum_to_one_at_most_and_agree_with_the_decision(
    calibration, similarities, threshold, prior, top
):
    rule = Rule(threshold, calibration.at(threshold), calibration, "", prior)
    answer = found(similarities, rule, top)
    said = [c.probability for c in answer.candidates if c.probability is not None]
    assert sum(said) + (answer.nobody or 0) <= 1
    for candidate in answer.candidates:
        assert candidate.probability is None or (candidate.probability >= 0.5 - 1e-6) == candidate.match
    assert answer.nobody is None or (answer.nobody < 0.5) == answer.match
    # Who is listed changes nothing.
    assert (
        found(similarities, rule, 1).candidates[0].probability
        == pytest.approx(answer.candidates[0].probability, abs=1e-6)
        or len(similarities) > 11
    )


def test_two_names_for_one_face_leave_no_probability_and_a_larger_gallery_less_of_it(calibration):
    rule = Rule(0.4, calibration.at(0.4), calibration, "")
    alone, twice = found([0.6, 0.0], rule), found([0.6, 0.599, 0.0], rule)
    assert alone.candidates[0].probability > 0.99
    # Both match, and the face can be of one of them only.
    assert [c.match for c in twice.candidates] == [True, True, False]
    assert twice.candidates[1].probability is None
    many = found([0.45, *[0.0] * 2000], rule)
    few = found([0.45, *[0.0] * 2], rule)
    assert few.match
    assert few.candidates[0].probability > 0.5
    assert many.match
    assert many.candidates[0].probability is None


def test_an_unknown_face_has_the_probability_of_nobody_in_its_row(calibration):
    rule = Rule(0.4, calibration.at(0.4), calibration, "")
    answer = found([0.1, 0.05], rule)
    rows = flatten(answer.record())
    assert rows[0]["subject"] == "unknown"
    assert rows[0]["probability"] == answer.nobody > 0.9
    bare = found([0.1], replace(rule, calibration=None, point=None))
    assert (bare.nobody, bare.candidates[0].probability) == (None, None)
