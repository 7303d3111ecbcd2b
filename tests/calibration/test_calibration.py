"""Calibrations: honest rates, probabilities that agree with decisions, files that cannot mislead."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from facecli.calibration import files
from facecli.calibration.calibration import CROSS_FITTED, IN_SAMPLE, OTHER_PEOPLE, check, data_digest, marks
from facecli.calibration.decision import Rule
from facecli.calibration.fit import calibrate, describe
from facecli.errors import BadInput, EmbedderMismatch, FaceError, NoCalibration, NoSuchFile, UsageError
from facecli.stats import metrics
from facecli.stats.comparisons import Comparisons, disjoint_splits
from facecli.stats.cross import cross_comparisons
from facecli.stats.probability import (
    Judgement,
    ScoreMap,
    Scores,
    cllr,
    fit,
    fit_isotonic,
    fit_logistic,
    min_cllr,
    probability,
    reliability,
)

ID = "model-0123abcd"


def people(n, seed, spread=0.75):
    """Cross comparisons of made-up templates of `n` people, and the person of each image."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(n), 1 + rng.poisson(1.2, n))
    centres = rng.normal(size=(n, 24))
    templates = centres[person] + spread * rng.normal(size=(person.size, 24))
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    return cross_comparisons(templates.astype(np.float32), person), person


def made(comparisons, person, name, **options):
    digests = [f"{name} image {k}" for k in range(person.size)]
    provenance = describe(comparisons, name, image_digests=digests, subjects=[f"{name} {p}" for p in person])
    return calibrate(comparisons, provenance, embedder_id=ID, **options)


@pytest.fixture(scope="module")
def first():
    return people(130, 1)


@pytest.fixture(scope="module")
def second():
    return people(90, 2)


@pytest.fixture(scope="module")
def one_set(first):
    return made(*first, "first", replicates=200)


@pytest.fixture(scope="module")
def two_sets(first, second):
    other = describe(
        second[0], "second", image_digests=["x"] * second[1].size, subjects=["y"] * second[1].size
    )
    return made(
        *first, "first", reported=second[0], reported_on=other, replicates=200, notice="made  up [of 1, 2]"
    )


def test_a_threshold_is_chosen_on_one_set_and_its_rates_come_from_the_other(two_sets, first, second):
    assert two_sets.basis == OTHER_PEOPLE
    chosen, reported = first[0], second[0]
    for target in (0.1, 0.03, 0.01, 0.001):
        point = two_sets.threshold_for(target)
        assert metrics.fmr(chosen.similarity[~chosen.mated], point.threshold) == point.chosen_fmr <= target
        # Nothing of the kind that a larger FMR within half a percent could have bought was given away.
        assert point.chosen_fmr > target * 0.99 - 2 / (~chosen.mated).sum()
        assert point.fmr == metrics.fmr(reported.similarity[~reported.mated], point.threshold)
        assert point.fnmr == metrics.fnmr(reported.similarity[reported.mated], point.threshold)
        assert (point.n_mated, point.n_nonmated) == (reported.mated.sum(), (~reported.mated).sum())
        assert point.people == 90
        assert point.threshold == round(point.threshold, 6)
    by_hand = two_sets.at(0.4)
    assert by_hand.fmr >= metrics.fmr(reported.similarity[~reported.mated], 0.4)
    assert by_hand.basis == OTHER_PEOPLE


def test_intervals_hold_the_rate_and_are_nowhere_inside_the_binomial_ones(two_sets, one_set):
    for calibration in (two_sets, one_set):
        points = [*calibration.points, calibration.threshold_for(0.003), calibration.at(0.345678)]
        for p in points:
            assert p.fmr_interval[0] <= p.fmr_binomial[0] <= p.fmr <= p.fmr_binomial[1] <= p.fmr_interval[1]
            assert p.fnmr_interval[0] <= p.fnmr_binomial[0] <= p.fnmr
            assert p.fnmr <= p.fnmr_binomial[1] <= p.fnmr_interval[1]
        # Errors gather on people: somewhere the honest interval must be the wider one.
        assert any(p.fmr_interval[1] > 1.05 * p.fmr_binomial[1] for p in points)


def test_an_fmr_beyond_the_data_is_refused_with_the_number_it_needs(one_set):
    have = one_set.chosen.n_nonmated
    one_set.threshold_for(3 / have * 1.001)
    with pytest.raises(NoCalibration):
        one_set.threshold_for(3 / have * 0.999)
    with pytest.raises(NoCalibration, match=f"needs at least 3,000,000 .* has {have:,}") as caught:
        one_set.threshold_for(1e-6)
    hint = float(str(caught.value).split("an FMR of ")[2].split()[0])
    one_set.threshold_for(hint)
    for wrong in (0, 1, -1, 2, math.nan):
        with pytest.raises(UsageError):
            one_set.threshold_for(wrong)


def test_the_targets_asked_are_among_the_points(first):
    calibration = made(*first, "first", targets=[0.07, 1e-9], replicates=10)
    names = [(p.name, p.target_fmr) for p in calibration.points]
    assert ("fmr", 0.07) in names
    assert ("fmr", 0.01) in names
    assert ("fmr", 1e-9) not in names
    assert {name for name, _ in names} == {"fmr", "eer", "accuracy"}


def naive_cross_fit(data, target, folds, seed):
    """Threshold by threshold: choose on the training part, count errors on the test part."""
    false = missed = 0
    for train, test in disjoint_splits(data.folds(folds, seed), folds):
        threshold = metrics.threshold_for_fmr(data.similarity[train & ~data.mated], target)
        match = data.similarity[test].astype(np.float64) >= threshold
        false += int((match & ~data.mated[test]).sum())
        missed += int((~match & data.mated[test]).sum())
    return false, missed


def test_cross_fitted_rates_are_those_of_thresholds_chosen_without_the_people(one_set, first):
    assert one_set.basis == CROSS_FITTED
    for target in (0.1, 0.01, 0.001):
        point = one_set.threshold_for(target)
        assert (point.false_matches, point.misses) == naive_cross_fit(first[0], point.chosen_fmr, 10, 0)
        stored = next(p for p in one_set.points if p.target_fmr == target)
        assert stored == point


def test_cross_fitting_keeps_ties_together(first):
    data, person = first
    tied = replace(data, similarity=data.similarity.round(2))
    calibration = made(tied, person, "tied", replicates=10)
    for target in (0.05, 0.02, 0.01):
        point = calibration.threshold_for(target)
        assert (point.false_matches, point.misses) == naive_cross_fit(tied, point.chosen_fmr, 10, 0)


def test_between_two_points_the_wider_interval_is_taken(two_sets):
    def widths(p):
        return np.array([p.fmr_interval[1] / p.fmr, p.fnmr_interval[1] / p.fnmr])

    ladder = sorted((p for p in two_sets.points if p.name == "fmr"), key=lambda p: p.threshold)
    points = {p.threshold: p for p in two_sets.points}
    tried = 0
    for low, high in zip(ladder, ladder[1:], strict=False):
        inside = [t for t in points if low.threshold < t < high.threshold]
        middle = two_sets.at((low.threshold + high.threshold) / 2)
        if not inside and low.threshold < middle.threshold < high.threshold and high.fmr * low.fnmr > 0:
            # Of FMR the stricter neighbour is the wider one, of FNMR the laxer; bounds end at 1.
            around = np.maximum(widths(low), widths(high)) * (1 - 1e-9)
            assert (widths(middle) >= np.minimum(around, [1 / middle.fmr, 1 / middle.fnmr])).all()
            tried += 1
    assert tried > 2


def test_pure_chance_is_seen_through_by_cross_fitting_only():
    # Every person has their own level, so their comparisons lie high together; few people, so thresholds
    # that saw them flatter themselves.
    rng = np.random.default_rng(0)
    data, person = people(30, 5)
    level = rng.normal(0, 0.15, 30).astype(np.float32)
    left, right = data.known()
    wolves = replace(data, similarity=data.similarity + level[left] + level[right])
    calibration = made(wolves, person, "wolves", replicates=10)
    point = calibration.threshold_for(0.01)
    assert point.chosen_fmr <= 0.01 < point.fmr


def test_people_unknown_or_few_is_said(first):
    data, person = first
    unknown = Comparisons(data.similarity, data.mated)
    calibration = calibrate(unknown, describe(unknown, "scores"), embedder_id=ID)
    point = calibration.threshold_for(0.01)
    assert (point.basis, point.people, point.fmr) == (IN_SAMPLE, 0, point.chosen_fmr)
    assert point.fmr_interval == point.fmr_binomial
    assert calibration.quality.held_out_cllr == {}
    few, person = people(6, 3)
    assert made(few, person, "few", replicates=10).basis == IN_SAMPLE


def test_one_kind_of_comparison_only_is_refused(first):
    data = first[0]
    for kind in (data.mated, ~data.mated):
        part = Comparisons(data.similarity[kind], data.mated[kind])
        with pytest.raises(BadInput, match="there are no"):
            calibrate(part, describe(part, "x"), embedder_id=ID)


def test_nothing_but_failures_is_refused(first):
    data = first[0]
    for kind, name in ((data.mated, "mated"), (~data.mated, "non-mated")):
        part = Comparisons(np.where(kind, -np.inf, data.similarity), data.mated)
        with pytest.raises(BadInput, match=f"all .* {name} comparisons failed"):
            calibrate(part, describe(part, "x"), embedder_id=ID)


def test_failures_stay_in_the_denominators(first):
    data = first[0]
    failed = data.similarity.copy()
    failed[np.flatnonzero(data.mated)[:20]] = -np.inf
    failed[np.flatnonzero(~data.mated)[:500]] = -np.inf
    with_failures = replace(data, similarity=failed)
    provenance = describe(with_failures, "x")
    calibration = calibrate(with_failures, provenance, embedder_id=ID, replicates=10)
    point = calibration.threshold_for(0.01)
    assert provenance.n_failed == 520
    assert point.n_mated == data.mated.sum()
    assert point.misses >= 20
    assert calibration.at(-0.9).misses >= 20
    assert files.to_json(files.from_json(files.to_json(calibration), path="x")) == files.to_json(calibration)


@settings(max_examples=40)
@given(st.lists(st.floats(-1.2, 1.2), min_size=2, max_size=30), st.floats(-1, 1), st.floats(0.01, 0.99))
def test_probability_and_decision_never_contradict_each_other(one_set, scores, threshold, prior):
    isotonic = replace(one_set, score_map=fit_isotonic(Scores.of([0.2, 0.5, 0.6], [-0.1, 0.1, 0.3])))
    for calibration in (one_set, isotonic):
        rule = Rule(threshold, None, calibration, "made up", prior)
        judged = [rule.judge(s) for s in sorted(scores)]
        at_threshold = round(calibration.probability(threshold, prior), 6)
        for one in judged:
            assert one.match == (one.similarity >= threshold)
            if one.match:
                assert one.probability >= at_threshold
            else:
                assert one.probability <= at_threshold
            exact = calibration.probability(one.similarity, prior)
            assert one.probability == round(exact, 6)
            odds = math.log(exact / (1 - exact)) - math.log(prior / (1 - prior))
            assert odds == pytest.approx(float(calibration.score_map.llr(one.similarity)), abs=1e-6)
        assert all(a.probability <= b.probability for a, b in zip(judged, judged[1:], strict=False))


def test_probability_does_not_jump_at_the_threshold(one_set):
    threshold = one_set.threshold_for(0.001).threshold
    below, above = one_set.probability(threshold - 1e-6), one_set.probability(threshold + 1e-6)
    assert above - below < 1e-4
    assert one_set.probability(0.9) > 0.99
    assert one_set.probability(-0.5) < 0.01
    with pytest.raises(UsageError):
        one_set.probability(0.5, prior=1)


def mixed(seed=0, n=400):
    rng = np.random.default_rng(seed)
    return rng.normal(0.6, 0.2, n).round(3), rng.normal(0.2, 0.2, 3 * n).round(3)


def test_the_logistic_map_is_that_of_scikit_learn():
    mated, nonmated = mixed()
    ours = fit_logistic(Scores.of(mated, nonmated))
    x = np.concatenate([mated, nonmated])[:, None]
    # The same targets moved off 0 and 1, as weighted copies of each comparison with either label.
    n1, n0 = mated.size, nonmated.size
    up = np.concatenate([np.full(n1, (n1 + 1) / (n1 + 2)), np.full(n0, 1 / (n0 + 2))])
    weight = np.concatenate([np.full(n1, 0.5 / n1), np.full(n0, 0.5 / n0)])
    theirs = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(
        np.concatenate([x, x]),
        np.repeat([1, 0], x.size),
        np.concatenate([weight * up, weight * (1 - up)]) * 1000,
    )
    assert ours.values == (
        pytest.approx(theirs.intercept_[0], rel=1e-4),
        pytest.approx(theirs.coef_[0, 0], rel=1e-4),
    )


@given(
    st.lists(st.integers(0, 9).map(lambda k: k / 9), min_size=1, max_size=20),
    st.lists(st.integers(0, 9).map(lambda k: k / 9), min_size=1, max_size=20),
)
def test_the_isotonic_map_is_that_of_scikit_learn(mated, nonmated):
    scores = Scores.of(mated, nonmated)
    ours = fit_isotonic(scores)
    x = np.concatenate([mated, nonmated])
    weight = np.concatenate(
        [np.full(len(mated), 0.5 / len(mated)), np.full(len(nonmated), 0.5 / len(nonmated))]
    )
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(x, np.arange(x.size) < len(mated), weight)
    share = np.clip(fitted.predict(scores.similarity), 1e-12, 1 - 1e-12)
    expected = np.clip(np.log(share / (1 - share)), ours.low, ours.high)
    np.testing.assert_allclose(ours.llr(scores.similarity), expected, atol=1e-6)
    assert (ours.low, ours.high) == (-math.log(len(mated) + 1), math.log(len(nonmated) + 1))


def test_separable_scores_have_a_finite_map_bounded_by_the_data():
    scores = Scores.of([0.8, 0.9], [0.1, 0.2, 0.3])
    for fitter in (fit_logistic, fit_isotonic):
        found = fitter(scores)
        assert found.llr(5.0) <= math.log(4) + 1e-12
        assert found.llr(-5.0) >= -math.log(3) - 1e-12
        assert np.isfinite(found.values).all()
    backwards = fit_logistic(Scores.of([0.1], [0.9]))
    assert backwards.llr([0.1, 0.9]).tolist() == [0, 0]
    equal = fit_logistic(Scores.of([0.5], [0.5]))
    assert equal.llr(0.5) == pytest.approx(0)
    assert fit_isotonic(scores).llr(-np.inf) == -math.log(3)


def test_cllr_is_the_mean_cost_in_bits():
    assert cllr(Scores.of([0.5], [0.5]), ScoreMap("logistic", (0.0, 0.0))) == pytest.approx(1)
    mated, nonmated = mixed(1)
    found = fit_logistic(Scores.of(mated, nonmated))
    naive = np.mean(np.log2(1 + np.exp(-found.llr(mated)))) + np.mean(
        np.log2(1 + np.exp(found.llr(nonmated)))
    )
    assert cllr(Scores.of(mated, nonmated), found) == pytest.approx(naive / 2)
    assert min_cllr(Scores.of(mated, nonmated)) < naive / 2
    # Knowing nothing costs a bit whatever the scores.
    assert min_cllr(Scores.of([0.1, 0.2], [0.3, 0.4])) == pytest.approx(1)


@pytest.mark.parametrize(("shape", "method"), [("straight", "logistic"), ("bent", "isotonic")])
def test_the_method_with_the_better_held_out_cost_is_taken(shape, method):
    rng = np.random.default_rng(0)
    n, images = 60, 8
    person = np.repeat(np.arange(n), images)
    i, j = np.triu_indices(person.size, 1)
    mated = person[i] == person[j]
    z = rng.normal(np.where(mated, 1.5, -1.5), np.sqrt(3), i.size)
    similarity = z / 10 if shape == "straight" else np.exp(z)
    data = Comparisons(similarity, mated, person[i].astype(np.int32), person[j].astype(np.int32))
    fitted = fit(data, folds=5, seed=0)
    found, held_out = fitted.score_map, fitted.cllr
    assert found.method == method == min(held_out, key=held_out.get)
    # Its cost on people it did not see is near that of the true map: LLR = z.
    truth = (np.logaddexp(0, -z[mated]).mean() + np.logaddexp(0, z[~mated]).mean()) / (2 * math.log(2))
    assert held_out[method] == pytest.approx(truth, abs=0.02)


def test_the_reliability_table_accounts_for_every_comparison():
    mated, nonmated = mixed(2, 4000)
    scores = Scores.of(mated, nonmated)
    said = Judgement.of(scores, fit_logistic(scores))
    table = reliability(said)
    assert sum(row.n_mated for row in table) == mated.size
    assert sum(row.n_nonmated for row in table) == nonmated.size
    for row in table:
        assert row.low <= row.predicted <= row.high
        assert row.observed == pytest.approx(row.predicted, abs=0.1)
    assert reliability(said, prior=0.01)[0].observed < table[0].observed
    assert probability(0.0, 0.25) == pytest.approx(0.25)


def test_the_reliability_table_is_of_people_that_the_map_was_not_fitted_on():
    rng = np.random.default_rng(8)
    person = np.arange(60).repeat(2)
    i, j = np.triu_indices(person.size, k=1)
    mated = person[i] == person[j]
    # Convex in the similarity, so that the isotonic map wins, which repeats its own data to the last digit.
    similarity = np.exp(rng.normal(np.where(mated, 1.2, -1.2), 1.5))
    data = Comparisons(similarity, mated, person[i].astype(np.int32), person[j].astype(np.int32))
    made = calibrate(data, describe(data, "synthetic"), embedder_id="e", replicates=20)
    assert made.score_map.method == "isotonic"
    table = made.quality.reliability
    assert sum(row.n_mated + row.n_nonmated for row in table) == len(data)
    scores = Scores.of(similarity[mated], similarity[~mated])
    own = reliability(Judgement.of(scores, made.score_map))
    furthest = [max(abs(row.predicted - row.observed) for row in rows) for rows in (own, table)]
    assert furthest[0] < 0.02 < furthest[1]


def test_a_calibration_reads_back_to_the_same_numbers(one_set, two_sets, tmp_path):
    for calibration in (one_set, two_sets):
        path = tmp_path / "deep" / "c.json"
        files.save(path, calibration)
        again = files.load(path)
        assert files.to_json(again) == path.read_text() == files.to_json(calibration)
        assert again.points == calibration.points
        assert again.threshold_for(0.004) == calibration.threshold_for(0.004)
        assert again.probability(0.5, 0.4) == calibration.probability(0.5, 0.4)
        assert again.chosen_on == calibration.chosen_on
    assert '"notice": "made  up [of 1, 2]"' in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["c.json"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(first):
    texts = [files.to_json(made(*first, "first", seed=s, replicates=50)) for s in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


def places(value, at=()):
    """Yield the keys on the way to every value of a JSON document; of long lists the first and the last."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*at, key)
            yield from places(inner, (*at, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from places(value[0], (*at, 0))


def error_of(document):
    try:
        files.from_json(json.dumps(document), path="c.json")
    except BadInput as error:
        return error
    return None


# What may be left out, empty or any number without misleading anyone.
HARMLESS = {
    ("reported_on", None),
    ("reported_on", "missing"),
    ("target_fmr", None),
    ("target_fmr", -1),
    ("points", "[]"),
    ("reliability", "[]"),
    ("held_out_cllr", "{}"),
    ("min_quality", "missing"),
}


@pytest.mark.slow
def test_damage_anywhere_is_named_by_file_and_key():
    few, person = people(20, 3)
    other = describe(few, "few", image_digests=["x"] * person.size, subjects=["y"] * person.size)
    document = json.loads(
        files.to_json(made(few, person, "few", reported=few, reported_on=other, replicates=10))
    )
    checked = 0
    for place in list(places(document)):
        for damage in ("missing", [], {}, -1, True, "x", None, [0.5, "x"], [[1]], 1e400):
            copy = json.loads(json.dumps(document))
            target = copy
            for key in place[:-1]:
                target = target[key]
            before = target[place[-1]]
            if damage == "missing":
                del target[place[-1]]
            else:
                target[place[-1]] = damage
            told = json.dumps(damage) if isinstance(damage, list | dict) else damage
            alike = type(damage) is type(before) or {type(damage), type(before)} == {int, float}
            if (place[-1], told) in HARMLESS or (alike and damage not in ([], {}, [0.5, "x"], [[1]], 1e400)):
                continue
            if damage == [] and before == []:
                continue
            if place[-2:-1] == ("held_out_cllr",) and damage == "missing":
                continue
            error = error_of(copy)
            assert error is not None, (place, damage)
            assert error.path == "c.json"
            assert damage == 1e400 or str(place[-1]) in error.what or place == ("format",), (place, damage)
            checked += 1
    assert checked > 500


@settings(max_examples=60)
@given(st.data())
def test_any_torn_file_is_one_clear_error(one_set, data):
    text = files.to_json(one_set).encode()
    cut = data.draw(st.integers(0, len(text) - 3))
    torn = text[:cut] + data.draw(st.binary(max_size=3))
    with pytest.raises(BadInput):
        files.from_json(torn, path="c.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("thresholds", lambda v: v[::-1]),
        ("false_matches", lambda v: v[::-1]),
        ("misses", lambda v: v[:-1]),
        ("misses", lambda v: [*v[:-1], 10**9]),
        ("false_matches", lambda v: [x + 0.5 for x in v]),
        ("n_mated", lambda v: 0),
    ],
)
def test_a_curve_that_goes_astray_is_refused(one_set, key, value):
    document = json.loads(files.to_json(one_set))
    holder = document["curve"] if key == "thresholds" else document["curve"]["reported"]
    holder[key] = value(holder[key])
    with pytest.raises(BadInput, match=key):
        files.from_json(json.dumps(document), path="c.json")


def test_a_whole_number_too_large_for_a_float_is_refused(one_set):
    document = json.loads(files.to_json(one_set))
    document["quality"]["auc"] = 10**400
    with pytest.raises(BadInput, match="'quality.auc' is not a number"):
        files.from_json(json.dumps(document), path="c.json")


def test_not_a_calibration():
    for text in ("", "[]", "{}", "null", '{"format": "x"}', "[" * 100_000, b"\xff\xfe\xff", '{"a": NaN}'):
        with pytest.raises(BadInput):
            files.from_json(text, path="c.json")
    with pytest.raises(BadInput, match="version 2"):
        files.from_json('{"format": "facecli calibration", "version": 2}', path="c.json")


def test_installing_finding_and_restoring(one_set, two_sets, tmp_path, monkeypatch):
    assert files.find_calibration(ID, tmp_path) is None
    with pytest.raises(NoCalibration):
        files.restore(ID, tmp_path)
    first = files.install(one_set, tmp_path)
    assert (first.path, first.replaced) == (tmp_path / "calibrations" / f"{ID}.json", None)
    assert files.find_calibration(ID, tmp_path).basis == CROSS_FITTED
    assert files.install(two_sets, tmp_path).replaced.basis == CROSS_FITTED
    assert files.find_calibration(ID, tmp_path).basis == OTHER_PEOPLE

    data = tmp_path / "data"
    data.mkdir()
    (data / f"{ID}.json").write_text(files.to_json(one_set))
    monkeypatch.setattr(files, "SHIPPED", data)
    before = (data / f"{ID}.json").read_bytes()
    assert files.restore(ID, tmp_path).basis == CROSS_FITTED
    assert files.find_calibration(ID, tmp_path).basis == CROSS_FITTED
    assert files.install(two_sets, tmp_path).replaced.basis == CROSS_FITTED
    assert (data / f"{ID}.json").read_bytes() == before

    first.path.write_text("{")
    with pytest.raises(BadInput):
        files.find_calibration(ID, tmp_path)
    assert files.install(one_set, tmp_path).replaced is None
    assert files.find_calibration(ID, tmp_path).basis == CROSS_FITTED


def test_another_embedders_calibration_is_refused(one_set, tmp_path):
    check(one_set, ID)
    with pytest.raises(EmbedderMismatch, match=f"'{ID}', this is 'other'"):
        check(one_set, "other")
    wrong = files.installed_path("other", tmp_path)
    files.save(wrong, one_set)
    with pytest.raises(EmbedderMismatch):
        files.find_calibration("other", tmp_path)
    for unsafe in ("../x", "", "a/b", ".hidden", "x" * 300):
        with pytest.raises(UsageError):
            files.find_calibration(unsafe, tmp_path)
    with pytest.raises(NoSuchFile):
        files.load(tmp_path / "none.json")
    with pytest.raises(FaceError, match="cannot be read"):
        files.load(tmp_path)


def test_provenance_recognises_images_and_people_without_naming_them(one_set):
    provenance = one_set.chosen_on
    assert provenance.n_images == people(130, 1)[1].size
    assert provenance.n_people == 130
    assert set(marks(["first 3", "stranger"])) & set(provenance.subject_marks) == set(marks(["first 3"]))
    assert "first 3" not in files.to_json(one_set)
    assert provenance.digest == data_digest(
        f"first image {k} first {p}" for k, p in enumerate(people(130, 1)[1])
    )
    assert data_digest(["b", "a"]) == data_digest(["a", "b"]) != data_digest(["a", "c"])


def test_progress_is_told(first):
    told = []
    made(*first, "first", replicates=10, progress=lambda done, total: told.append((done, total)))
    assert told == [(k + 1, len(told)) for k in range(len(told))]


@pytest.mark.slow
def test_a_million_comparisons_make_a_small_file_that_loads_at_once(one_set):
    rng = np.random.default_rng(0)
    similarity = np.concatenate([rng.normal(0.6, 0.1, 1000), rng.normal(0.1, 0.1, 1_200_000)])
    data = Comparisons(similarity.astype(np.float32), np.arange(similarity.size) < 1000)
    calibration = calibrate(data, one_set.chosen_on, embedder_id=ID)
    text = files.to_json(calibration)
    assert len(text) < 300_000
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        files.from_json(text, path="c.json").threshold_for(1e-3)
        seconds.append(time.perf_counter() - started)
    # 6 ms on a quiet core; the best of five, for busy ones.
    assert min(seconds) < 0.02
