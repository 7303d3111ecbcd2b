"""Rates, curves, intervals: against loops, scikit-learn, scipy, published values and properties."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from drawn_anew import curve_replicates, fnmr_at
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.metrics import roc_auc_score, roc_curve

from facecli.errors import BadInput, UsageError
from facecli.evaluation.verification import evaluate
from facecli.stats import metrics
from facecli.stats.bootstrap import (
    IdentityBootstrap,
    MatedDesign,
    NonmatedDesign,
    people_interval,
    percentile_interval,
    rate_interval,
)
from facecli.stats.comparisons import Comparisons, disjoint_splits
from facecli.stats.curve import ScoreCurve, ScoreHistogram, eer_rate, round_up
from facecli.stats.intervals import clopper_pearson, mcnemar, rule_of_three, trials_needed
from facecli.trials.scored import ListedScores

# Few distinct values, so that ties are the rule; -inf is a failure.
SCORE = st.one_of(st.integers(-6, 6).map(lambda k: k / 8), st.just(-math.inf))
SCORES = st.lists(SCORE, min_size=1, max_size=25)
FINITE = st.lists(st.integers(-6, 6).map(lambda k: k / 8), min_size=1, max_size=25)
TARGET = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.5, 1.0]))


def naive_fmr(scores, threshold):
    scores = [float(s) for s in scores]
    return sum(s >= threshold and s > -math.inf for s in scores) / len(scores)


def naive_fnmr(scores, threshold):
    scores = [float(s) for s in scores]
    return sum(s < threshold or s == -math.inf for s in scores) / len(scores)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(mated=SCORES, nonmated=SCORES, threshold=st.floats(-1, 1))
def test_rates_are_those_of_a_loop(dtype, mated, nonmated, threshold):
    mated, nonmated = np.array(mated, dtype=dtype), np.array(nonmated, dtype=dtype) / dtype(3)
    curve = ScoreCurve.from_scores(mated, nonmated)
    near = [float(np.nextafter(float(nonmated[0]), way)) for way in (-np.inf, np.inf)]
    for t in (threshold, float(mated[0]), float(nonmated[0]), *near):
        assert metrics.fmr(nonmated, t) == naive_fmr(nonmated, t)
        assert metrics.fnmr(mated, t) == naive_fnmr(mated, t)
        false_matches, misses = curve.at(t)
        assert false_matches == round(naive_fmr(nonmated, t) * len(nonmated))
        assert misses == round(naive_fnmr(mated, t) * len(mated))


@given(SCORES, SCORES)
def test_fmr_never_rises_and_fnmr_never_falls(mated, nonmated):
    curve = ScoreCurve.from_scores(mated, nonmated)
    assert (np.diff(curve.thresholds) > 0).all()
    assert (np.diff(curve.fmr) <= 0).all()
    assert (np.diff(curve.fnmr) >= 0).all()
    assert curve.fmr[-1] == 0
    assert curve.fnmr[-1] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(scores=SCORES, target=TARGET)
def test_the_threshold_for_an_fmr_is_the_smallest_that_keeps_it(dtype, scores, target):
    scores = np.array(scores, dtype=dtype) / dtype(3)
    threshold = metrics.threshold_for_fmr(scores, target)
    assert metrics.fmr(scores, threshold) <= target
    if threshold > -math.inf:
        assert metrics.fmr(scores, float(np.nextafter(threshold, -np.inf))) > target


def test_a_threshold_is_compared_in_double_precision():
    score = np.float32(0.1)
    above = float(np.nextafter(float(score), 1.0))
    assert metrics.fmr(np.array([score]), float(score)) == 1
    assert metrics.fmr(np.array([score]), above) == 0
    assert metrics.fnmr(np.array([score]), above) == 1


@given(FINITE, FINITE, st.randoms())
def test_figures_do_not_change_under_increasing_maps_and_permutation(mated, nonmated, random):
    first = ScoreCurve.from_scores(mated, nonmated)
    mapped = [np.exp(3 * np.array(scores)) - 7 for scores in (mated, nonmated)]
    for scores in mapped:
        random.shuffle(scores)
    second = ScoreCurve.from_scores(*mapped)
    assert (first.false_matches == second.false_matches).all()
    assert (first.misses == second.misses).all()
    assert first.eer().rate == second.eer().rate
    assert first.auc() == second.auc()
    assert first.best_accuracy()[0] == second.best_accuracy()[0]


@given(FINITE, FINITE)
def test_eer_and_auc_are_those_of_scikit_learn(mated, nonmated):
    labels = [1] * len(mated) + [0] * len(nonmated)
    curve = ScoreCurve.from_scores(mated, nonmated)
    assert curve.auc() == pytest.approx(roc_auc_score(labels, mated + nonmated), abs=1e-12)
    fmr, tmr, _ = roc_curve(labels, mated + nonmated, drop_intermediate=False)
    # Along the curve's own length, so that vertical pieces have an inverse.
    way = np.arange(len(fmr), dtype=float)
    gap = lambda w: np.interp(w, way, fmr) - (1 - np.interp(w, way, tmr))  # noqa: E731
    crossing = optimize.brentq(gap, 0, way[-1])
    assert curve.eer().rate == pytest.approx(np.interp(crossing, way, fmr), abs=1e-9)


@given(SCORES, SCORES)
def test_auc_counts_failures_as_the_lowest_score(mated, nonmated):
    pairs = itertools.product(mated, nonmated)
    wins = sum((m > n) + (m == n) / 2 for m, n in pairs)
    assert metrics.auc(mated, nonmated) == pytest.approx(wins / len(mated) / len(nonmated), abs=1e-12)


@given(SCORES, SCORES, st.sampled_from([None, 0.5, 0.1]))
def test_the_best_accuracy_is_reached_and_not_surpassed(mated, nonmated, prior):
    best, threshold = metrics.best_accuracy(mated, nonmated, prior)
    weight = prior if prior is not None else len(mated) / (len(mated) + len(nonmated))

    def accuracy(t):
        return 1 - weight * naive_fnmr(mated, t) - (1 - weight) * naive_fmr(nonmated, t)

    assert best == pytest.approx(accuracy(threshold))
    assert best >= max(accuracy(t) for t in [*mated, *nonmated, 2.0]) - 1e-12


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [math.inf]])
def test_useless_scores_are_refused(bad):
    with pytest.raises(BadInput):
        ScoreCurve.from_scores(bad, [0.1])
    with pytest.raises(BadInput):
        ScoreCurve.from_scores([0.1], bad)
    if bad != [math.inf]:
        with pytest.raises(BadInput):
            metrics.fmr(bad, 0.5)
    with pytest.raises(UsageError):
        metrics.threshold_for_fmr([0.1], 1.5)


def many_scores(seed=0, n_mated=3_000, n_nonmated=200_000):
    rng = np.random.default_rng(seed)
    mated = np.clip(rng.normal(0.6, 0.12, n_mated), -1, 1).astype(np.float32)
    nonmated = np.clip(rng.normal(0.1, 0.1, n_nonmated), -1, 1).astype(np.float32)
    mated[:5] = -np.inf
    nonmated[:700] = -np.inf
    return mated, nonmated


def test_a_streamed_histogram_is_exact_at_seven_decimals_however_it_was_split():
    mated, nonmated = many_scores()
    exact = ScoreCurve.from_scores(mated, nonmated)
    scores = np.concatenate([mated, nonmated])
    labels = np.arange(scores.size) < mated.size
    order = np.random.default_rng(1).permutation(scores.size)
    counted = ScoreHistogram()
    for part in np.array_split(order, 7):
        counted.add(scores[part], labels[part])
    streamed = counted.curve()
    assert (streamed.n_mated, streamed.n_nonmated) == (mated.size, nonmated.size)
    for t in np.concatenate([np.linspace(-0.5, 1, 301).round(7), [0.4134567, -1.0, 1.0]]):
        assert streamed.at(t) == exact.at(t)
    for target in (0.1, 1e-2, 1e-3, 1e-4, 0):
        threshold = streamed.threshold_for_fmr(target)
        assert threshold == round(threshold, 7)
        assert metrics.fmr(nonmated, threshold) <= target < metrics.fmr(nonmated, threshold - 1e-7)
    assert streamed.eer().rate == pytest.approx(exact.eer().rate, abs=1e-5)
    assert streamed.auc() == pytest.approx(exact.auc(), abs=1e-6)
    with pytest.raises(BadInput, match="unit length"):
        counted.add(np.array([1.5]), np.array([True]))
    with pytest.raises(BadInput, match="not a number"):
        counted.add(np.array([np.nan]), np.array([True]))
    only_mated = ScoreHistogram()
    only_mated.add(np.array([0.5]), np.array([True]))
    with pytest.raises(BadInput, match="no non-mated"):
        only_mated.curve()


def test_a_thinned_curve_is_exact_at_its_thresholds_and_a_bound_between():
    mated, nonmated = many_scores()
    exact = ScoreCurve.from_scores(mated, nonmated)
    thin = exact.thinned(keep=[0.5])
    assert thin.thresholds.size < 4000
    assert 0.5 in thin.thresholds
    assert (thin.thresholds == thin.thresholds.round(6)).all()
    for t in thin.thresholds[::7]:
        assert thin.at(t) == exact.at(t)
    for t in np.random.default_rng(3).uniform(-0.5, 1, 300):
        assert (np.array(thin.at(t)) >= exact.at(t)).all()
        assert thin.at(t)[0] <= 1.011 * exact.at(t)[0] + 2
    for target in (0.1, 1e-2, 1e-3, 1e-4):
        threshold = thin.threshold_for_fmr(target)
        assert metrics.fmr(nonmated, threshold) <= target
        assert exact.threshold_for_fmr(target) <= threshold < exact.threshold_for_fmr(target * 0.99) + 1e-6


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.integers(1, 9))
def test_rounding_up_gives_the_next_decimal(values, decimals):
    rounded = round_up(np.array(values), decimals)
    assert (rounded >= values).all()
    assert (rounded == rounded.round(decimals)).all()
    assert (rounded - values < 1.001 * 10.0**-decimals).all()


def naive_search(row, probe, gallery, skip):
    scores = {}
    for k, (s, name) in enumerate(zip(row, gallery, strict=True)):
        if k != skip:
            scores[name] = max(scores.get(name, -math.inf), s)
    mate = scores.pop(probe, math.nan)
    other = max(scores.values(), default=-math.inf)
    if math.isnan(mate):
        return mate, math.nan, other
    if all(s == -math.inf for s in row):
        return mate, math.inf, other
    return mate, 1 + sum(s >= mate and s > -math.inf for s in scores.values()), other


@given(st.data())
def test_searches_and_their_rates_are_those_of_a_loop(data):
    names = st.sampled_from("abcde")
    gallery = data.draw(st.lists(names, min_size=1, max_size=7))
    probes = data.draw(st.lists(names, min_size=1, max_size=6))
    rows = [
        data.draw(
            st.one_of(
                st.lists(st.integers(0, 5).map(float), min_size=len(gallery), max_size=len(gallery)),
                st.just([-math.inf] * len(gallery)),
            )
        )
        for _ in probes
    ]
    skip = [data.draw(st.integers(-1, len(gallery) - 1)) for _ in probes]
    found = metrics.searches(np.array(rows), probes, gallery, exclude=np.array(skip))
    expected = [naive_search(*args) for args in zip(rows, probes, [gallery] * len(rows), skip, strict=True)]
    np.testing.assert_array_equal(found.mate, [e[0] for e in expected])
    np.testing.assert_array_equal(found.rank, [e[1] for e in expected])
    np.testing.assert_array_equal(found.other, [e[2] for e in expected])

    mated = [e for e in expected if not math.isnan(e[0])]
    if mated:
        curve = metrics.cmc(found, len(set(gallery)))
        assert (np.diff(curve) >= 0).all()
        among = [sum(e[1] <= k for e in mated) / len(mated) for k in range(1, curve.size + 1)]
        assert among == pytest.approx(curve.tolist())
        assert curve[-1] == pytest.approx(sum(e[1] < math.inf for e in mated) / len(mated))
    else:
        with pytest.raises(BadInput):
            metrics.cmc(found, 1)


def test_blocks_of_probes_join():
    rng = np.random.default_rng(0)
    scores, gallery = rng.normal(size=(6, 5)), list("aabcd")
    probes = list("abcxyz")
    whole = metrics.searches(scores, probes, gallery)
    parts = [metrics.searches(scores[k : k + 2], probes[k : k + 2], gallery) for k in (0, 2, 4)]
    joined = metrics.Searches.joined(parts)
    np.testing.assert_array_equal(whole.mate, joined.mate)
    np.testing.assert_array_equal(whole.rank, joined.rank)
    with pytest.raises(BadInput):
        metrics.searches(scores, probes, gallery[:-1])


def test_fold_accuracy_chooses_each_threshold_on_the_other_folds():
    # Fold 1 lies higher than folds 0 and 2: the threshold of those is too low for it.
    similarity = [0.6, 0.1, 0.9, 0.7, 0.6, 0.1]
    mated, fold = [True, False] * 3, [0, 0, 1, 1, 2, 2]
    result = metrics.fold_accuracy(similarity, mated, fold)
    assert result.rates[1] == 0.5
    assert result.mean == pytest.approx(np.mean(result.rates))
    assert result.standard_error == pytest.approx(stats.sem(result.rates))


@pytest.mark.parametrize(
    ("errors", "trials", "low", "high"),
    [(0, 3000, 0, 1.23e-3), (3, 3000, 2.1e-4, 2.9e-3), (30, 30000, 6.8e-4, 1.4e-3)],
)
def test_clopper_pearson_gives_the_published_values(errors, trials, low, high):
    found = clopper_pearson(errors, trials)
    assert found == (pytest.approx(low, rel=0.02), pytest.approx(high, rel=0.02))


@given(st.integers(1, 10**7), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_clopper_pearson_is_that_of_scipy(trials, share, level):
    errors = round(share * trials)
    interval = stats.binomtest(errors, trials).proportion_ci(level, "exact")
    low, high = clopper_pearson(errors, trials, level)
    # SciPy's own quantile is off by 6e-6 for one error in 3,099,986, where the lower end is 1 - .95**(1 / n).
    assert low == pytest.approx(interval.low, rel=2e-5, abs=1e-15)
    assert high == pytest.approx(interval.high, rel=2e-5)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test_of_scipy(b, c):
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


def test_the_rule_of_three_and_its_inverse():
    for n in (3, 10, 3000, 30_000, 1_197_943):
        assert trials_needed(rule_of_three(n)) == n
    for bad in ((1, 0), (2, 1), (-1, 5)):
        with pytest.raises(UsageError):
            clopper_pearson(*bad)


def some_pairs(people, pairs, seed):
    rng = np.random.default_rng(seed)
    left = rng.integers(0, people, pairs)
    return left, (left + rng.integers(1, people, pairs)) % people, rng.random(pairs) < 0.2


@pytest.mark.parametrize(("people", "pairs"), [(6, 40), (80, 50)])
def test_weighted_sums_are_those_of_a_loop_by_either_way(people, pairs):
    left, right, error = some_pairs(people, pairs, 0)
    bootstrap = IdentityBootstrap(people, replicates=20, seed=1)
    assert (bootstrap.weights.sum(axis=1) == people).all()
    counts = np.arange(pairs) - 5
    expected = [
        sum(w[i] * w[j] * c for i, j, c in zip(left, right, counts, strict=True)) for w in bootstrap.weights
    ]
    np.testing.assert_allclose(bootstrap.pair_sums(left, right, counts), expected, rtol=1e-5)
    np.testing.assert_allclose(
        bootstrap.person_sums(left, counts), [w[left] @ counts for w in bootstrap.weights], rtol=1e-5
    )


def test_fmr_replicates_have_the_variance_of_all_pairs_that_share_a_person():
    left, right, error = some_pairs(60, 300, 2)
    bootstrap = IdentityBootstrap(60, replicates=400, seed=1)
    design = NonmatedDesign.listed(bootstrap, left, right)
    replicates = design.replicates(left[error], right[error])
    rate = error.mean()
    residual = error - rate
    shared = (left[:, None] == left) | (left[:, None] == right)
    shared |= (right[:, None] == left) | (right[:, None] == right)
    variance = (np.outer(residual, residual) * shared).sum() / error.size**2
    raw = bootstrap.pair_sums(left[error], right[error]) / bootstrap.pair_sums(left, right)
    assert variance < raw.var()
    assert replicates.var() == pytest.approx(variance, rel=1e-6)
    assert np.corrcoef(raw, replicates)[0, 1] == pytest.approx(1)


def test_cross_comparisons_need_no_list():
    images = np.array([3, 1, 2, 5, 1, 1, 4])
    person = np.repeat(np.arange(7), images)
    i, j = np.triu_indices(person.size, 1)
    other = person[i] != person[j]
    left, right = person[i][other], person[j][other]
    error = np.random.default_rng(0).random(left.size) < 0.3
    bootstrap = IdentityBootstrap(7, replicates=50, seed=3)
    listed = NonmatedDesign.listed(bootstrap, left, right).replicates(left[error], right[error])
    cross = NonmatedDesign.cross(bootstrap, images).replicates(left[error], right[error])
    np.testing.assert_allclose(listed, cross, rtol=1e-5)


def test_more_draws_than_fit_into_memory_are_refused():
    with pytest.raises(UsageError, match="100000000 replicates of 9 people are more than memory should hold"):
        IdentityBootstrap(9, replicates=100_000_000)


def test_what_rounding_leaves_of_no_error_does_not_stretch_an_interval():
    for trials in range(2, 400):
        rate = 1 - (1 - 1 / trials)
        # Draws have the one error not at all, once or twice; taken off and added again, 1e-17 may be left of none.
        drawn = rate + (np.tile([0, 0, 1, 1, 2], 40) / trials - 1 / trials)
        low, high = people_interval(drawn, rate)
        assert low == pytest.approx(0, abs=0)
        assert high == pytest.approx(2 / trials)


def test_no_error_leaves_the_exact_bound_and_one_seed_one_answer():
    left, right, error = some_pairs(50, 400, 4)
    intervals = []
    for _ in range(2):
        design = NonmatedDesign.listed(IdentityBootstrap(50, replicates=200, seed=9), left, right)
        none = design.replicates(left[:0], right[:0])
        assert rate_interval(none, 0, 400) == clopper_pearson(0, 400)
        intervals.append(rate_interval(design.replicates(left[error], right[error]), error.sum(), 400))
    assert intervals[0] == intervals[1]
    assert intervals[0][0] < error.mean() < intervals[0][1]


def test_a_difference_of_two_systems_cancels_what_they_share():
    left, right, error = some_pairs(60, 600, 5)
    second = error.copy()
    second[:6] = ~second[:6]
    design = NonmatedDesign.listed(IdentityBootstrap(60, seed=1), left, right)
    signed = error.astype(int) - second.astype(int)
    changed = signed != 0
    difference = design.replicates(left[changed], right[changed], signed[changed])
    low, high = percentile_interval(difference)
    assert low <= error.mean() - second.mean() <= high
    own = percentile_interval(design.replicates(left[error], right[error]))
    assert high - low < (own[1] - own[0]) / 2


def simulated(people, pairs, seed):
    left, right, _ = some_pairs(people, pairs, seed)
    rng = np.random.default_rng(seed + 1)
    mated = np.arange(pairs) % 2 == 0
    right = np.where(mated, left, right)
    similarity = rng.normal(np.where(mated, 0.6, 0.2), 0.15)
    _, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    a, b = np.split(codes.astype(np.int32), 2)
    return Comparisons(similarity, mated, a, b)


def test_replicated_curves_with_everyone_drawn_once_are_the_curve():
    data = simulated(40, 200, 0)
    data.similarity[3:5] = -np.inf
    bootstrap = IdentityBootstrap(data.people, replicates=1)
    bootstrap.weights[:] = 1
    (fmr, fnmr), curve = next(curve_replicates(data, bootstrap)), data.curve()
    np.testing.assert_allclose(fmr, curve.fmr, atol=1e-12)
    np.testing.assert_allclose(fnmr, curve.fnmr, atol=1e-12)
    assert eer_rate(fmr, fnmr) == pytest.approx(curve.eer().rate)
    expected = metrics.fnmr(data.similarity[data.mated], curve.threshold_for_fmr(0.05))
    assert fnmr_at(fmr, fnmr, 0.05) == pytest.approx(expected)


def test_statistics_of_six_thousand_pairs_take_under_five_seconds():
    started = time.process_time()
    data = simulated(4000, 6000, 7)
    left, right = data.known()
    bootstrap = IdentityBootstrap(data.people, seed=0)
    nonmated = NonmatedDesign.listed(bootstrap, left[~data.mated], right[~data.mated])
    mated = MatedDesign(bootstrap, left[data.mated])
    curve = data.curve()
    for target in (0.1, 0.01, 0.001):
        match = data.similarity >= curve.threshold_for_fmr(target)
        false, missed = match & ~data.mated, ~match & data.mated
        low, high = rate_interval(nonmated.replicates(left[false], right[false]), false.sum(), 3000)
        assert low < false.sum() / 3000 < high
        low, high = rate_interval(mated.replicates(left[missed]), missed.sum(), 3000)
        assert low < missed.sum() / 3000 < high
    names = tuple(str(k) for k in range(data.people))
    whole = evaluate(ListedScores(data, left, right, names, names), replicates=1000)
    (eer,) = (f for f in whole.figures if f.name == "eer")
    assert eer.interval[0] < eer.value == curve.eer().rate < eer.interval[1]
    assert time.process_time() - started < 5


@settings(max_examples=20)
@given(st.integers(3, 6), st.integers(0, 1000))
def test_splits_share_no_person_and_test_every_comparison_once(folds, seed):
    data = simulated(20, 60, seed)
    left, right = data.known()
    tested = np.zeros(len(data), dtype=int)
    for train, test in disjoint_splits(data.folds(folds, seed), folds):
        tested += test
        people = set(left[train]) | set(right[train])
        assert not people & (set(left[test]) | set(right[test]))
    assert (tested == 1).all()


def test_comparisons_that_contradict_themselves_are_refused():
    with pytest.raises(BadInput, match="against its subjects"):
        Comparisons(np.array([0.1]), np.array([True]), np.array([0]), np.array([1]))
    with pytest.raises(BadInput, match="do not fit"):
        Comparisons(np.array([0.1, 0.2]), np.array([True]))
    with pytest.raises(BadInput, match="who is who"):
        Comparisons(np.array([0.1]), np.array([True])).known()
