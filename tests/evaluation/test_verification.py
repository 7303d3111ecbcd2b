"""Evaluation of verification, held to naive loops, scikit-learn and resampling done the long way."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest
from drawn_anew import curve_replicates, eer_interval, fnmr_at
from sklearn import metrics as sk

from facecli.errors import BadInput, UsageError
from facecli.evaluation.compare import compare, error_records, read_result
from facecli.evaluation.data import EvalData, from_database, seen_before, training_marks
from facecli.evaluation.evaluation import run
from facecli.evaluation.figures import VERIFICATION
from facecli.evaluation.groups import ACROSS, by_pairs, by_people, read_groups, worst_ratio
from facecli.evaluation.records import flat, records
from facecli.evaluation.verification import evaluate, resampling_of
from facecli.evaluation.worst_cases import FALSE_MATCH, people_with_errors, worst_pairs
from facecli.models.checkpoint import FORMAT, VERSION
from facecli.stats.bootstrap import IdentityBootstrap
from facecli.stats.comparisons import Comparisons
from facecli.stats.intervals import student_t
from facecli.trials import scored as scored_module
from facecli.trials.labelled import LabelledComparisons, of_samples
from facecli.trials.pairs import PairSet
from facecli.trials.samples import Samples
from facecli.trials.scored import ListedScores, cross_of, curve_of, listed_scores
from facecli.trials.tails import tails


def made(people=30, each=4, dim=16, noise=1.0, seed=0, failed=()):
    """Return samples of `people` around a centre each; those in `failed` have no template."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((people, dim)), each, axis=0)
    rows = centres + noise * rng.standard_normal(centres.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows[list(failed)] = np.nan
    paths = tuple(f"p{k // each:03d}/{k % each}.jpg" for k in range(people * each))
    return Samples(paths, tuple(p.split("/")[0] for p in paths), ("",) * len(paths), rows)


def brute(samples):
    """Return (similarities, mated) of every i < j by loops, in float32 as the product has it."""
    similarities, mated = [], []
    with np.errstate(invalid="ignore"):
        product = samples.templates @ samples.templates.T
    for i, j in itertools.combinations(range(len(samples)), 2):
        similarities.append(-np.inf if np.isnan(product[i, j]) else product[i, j])
        mated.append(samples.subjects[i] == samples.subjects[j])
    return np.array(similarities, np.float64), np.array(mated)


def figure(found, name, at=""):
    (one,) = [f for f in found.figures if (f.name, f.at) == (name, at)]
    return one


@pytest.mark.parametrize("failed", [(), (0, 5, 6, 7)])
def test_figures_agree_with_loops_and_scikit_learn(failed):
    samples = made(failed=failed)
    similarity, mated = brute(samples)
    threshold = 0.43
    found = evaluate(cross_of(samples), threshold=threshold, replicates=100)

    false, missed = (similarity >= threshold) & ~mated, (similarity < threshold) & mated
    fmr, fnmr = figure(found, "fmr", "threshold"), figure(found, "fnmr", "threshold")
    assert (fmr.errors, fmr.trials) == (false.sum(), (~mated).sum())
    assert (fnmr.errors, fnmr.trials) == (missed.sum(), mated.sum())
    usable = similarity > -np.inf
    assert fmr.without_failures == pytest.approx(false.sum() / (~mated & usable).sum())
    assert fnmr.without_failures == pytest.approx((missed & usable).sum() / (mated & usable).sum())
    assert (fnmr.without_failures == fnmr.value) is not bool(failed)

    at = figure(found, "fnmr", "fmr 0.01")
    allowed = [t for t in similarity if (similarity[~mated] >= t).mean() <= 0.01]
    assert at.value == (similarity[mated] < min(allowed)).mean()
    finite = np.where(usable, similarity, -2)
    assert figure(found, "auc").value == pytest.approx(sk.roc_auc_score(mated, finite), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(mated, finite, drop_intermediate=False)
    k = int(np.argmax(fpr >= 1 - tpr))
    share = (1 - tpr[k - 1] - fpr[k - 1]) / (fpr[k] - fpr[k - 1] + tpr[k] - tpr[k - 1])
    assert figure(found, "eer").value == pytest.approx(fpr[k - 1] + share * (fpr[k] - fpr[k - 1]))
    for f in found.figures:
        assert f.interval[0] <= f.value <= f.interval[1], f


def test_positions_name_their_samples_and_people(monkeypatch):
    samples = made(people=7, each=3)
    monkeypatch.setattr("facecli.stats.cross.BLOCK", 20)
    cross_scored = cross_of(samples)
    similarity, mated = brute(samples)
    pairs = list(itertools.combinations(range(len(samples)), 2))
    kept = tails(cross_scored, 0.2, 0.5)
    i, j = cross_scored.items(kept.false(0.2))
    assert list(zip(i, j, strict=True)) == [
        p for p, s, m in zip(pairs, similarity, mated, strict=True) if s >= 0.2 and not m
    ]
    i, j = cross_scored.items(kept.missed(0.5))
    assert list(zip(i, j, strict=True)) == [
        p for p, s, m in zip(pairs, similarity, mated, strict=True) if s < 0.5 and m
    ]
    left, right = cross_scored.persons(kept.false(0.2))
    i, j = cross_scored.items(kept.false(0.2))
    assert [cross_scored.people[k] for k in left] == [samples.subjects[k] for k in i]
    assert [cross_scored.people[k] for k in right] == [samples.subjects[k] for k in j]


def test_a_histogram_of_blocks_gives_the_same_figures(monkeypatch):
    samples = made(failed=(3,))
    whole = evaluate(cross_of(samples), threshold=0.4, replicates=100)
    monkeypatch.setattr(scored_module, "IN_MEMORY", 0)
    streamed = evaluate(cross_of(samples), threshold=0.4, replicates=100)
    for a, b in zip(whole.figures, streamed.figures, strict=True):
        assert (a.name, a.at, a.errors, a.trials) == (b.name, b.at, b.errors, b.trials)
        assert b.value == pytest.approx(a.value, abs=1e-9)


def test_ties_at_the_threshold_match_in_float32_and_float64():
    at = np.float32(0.3)
    scores = np.array([at, np.nextafter(at, np.float32(0)), 0.9, 0.1], np.float32)
    mated = np.array([False, False, True, True])
    table = ListedScores(Comparisons(scores, mated), np.arange(4), np.arange(4), tuple("abcd"), ())
    kept = tails(table, float(at), float(at))
    assert kept.false(float(at)).tolist() == [0]
    assert kept.missed(float(at)).tolist() == [3]
    found = evaluate(table, threshold=float(at))
    assert figure(found, "fmr", "threshold").errors == 1
    # Nobody says who is who: the exact interval stands alone.
    assert figure(found, "fmr", "threshold").interval == figure(found, "fmr", "threshold").binomial


@pytest.mark.slow
def test_intervals_of_eer_and_auc_agree_with_drawing_the_curve_anew():
    samples = made(people=60, each=4, noise=1.2)
    comparisons = cross_of(samples).comparisons
    found = evaluate(cross_of(samples), replicates=1000)
    bootstrap = IdentityBootstrap(60)
    low, high = eer_interval(comparisons, bootstrap)
    eer = figure(found, "eer")
    width = high - low
    assert eer.interval[0] == pytest.approx(low, abs=0.35 * width)
    # Upper bounds of skewed rates are lifted (see `people_interval`), so this one may lie higher.
    assert high - 0.35 * width < eer.interval[1] < eer.value**2 / eer.interval[0] + 0.35 * width
    left, right = comparisons.known()
    mated = comparisons.mated
    areas = [
        sk.roc_auc_score(
            mated, comparisons.similarity, sample_weight=np.where(mated, w[left], w[left] * w[right])
        )
        for w in bootstrap.weights[:200]
    ]
    auc = figure(found, "auc")
    assert auc.interval == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.35 * np.ptp(auc.interval))


def lists(pairs_per_kind=300, people=200, noise=0.8, seed=0, folds=10):
    """Return a list of pairs in folds as LFW's, over samples of their own."""
    samples = made(people=people, each=3, noise=noise, seed=seed)
    rng = np.random.default_rng(1)
    left, right, fold = [], [], []
    for k in range(folds):
        for _ in range(pairs_per_kind // folds):
            person = rng.integers(people)
            a, b = rng.choice(3, 2, replace=False)
            left.append(samples.paths[3 * person + a])
            right.append(samples.paths[3 * person + b])
            fold.append(k)
        for _ in range(pairs_per_kind // folds):
            one, two = rng.choice(people, 2, replace=False)
            left.append(samples.paths[3 * one + rng.integers(3)])
            right.append(samples.paths[3 * two + rng.integers(3)])
            fold.append(k)
    mated = np.array([a.split("/")[0] == b.split("/")[0] for a, b in zip(left, right, strict=True)])
    pairs = PairSet(
        tuple(left),
        tuple(right),
        root=None,
        mated=mated,
        fold=np.array(fold),
        lines=tuple(range(2, len(left) + 2)),
    )
    return samples, pairs


def test_the_folds_of_lfw_choose_thresholds_on_the_other_nine():
    samples, pairs = lists()
    scores = listed_scores(samples, pairs)
    found = evaluate(scores, fold=pairs.fold, threshold=0.4)
    similarity, mated = scores.comparisons.similarity, pairs.mated
    rates = []
    for k in range(10):
        test = pairs.fold == k
        best = max(
            np.concatenate([similarity[~test], [np.inf]]),
            key=lambda t: (np.mean((similarity[~test] >= t) == mated[~test]), t),
        )
        # Any threshold above the next lower score is as good on nine folds; theirs lies just above it.
        lower = similarity[~test][similarity[~test] < best]
        t = np.nextafter(lower.max(), np.inf)
        rates.append(np.mean((similarity[test] >= t) == mated[test]))
    accuracy = figure(found, "accuracy", "10 folds")
    assert accuracy.value == pytest.approx(np.mean(rates))
    assert accuracy.standard_error == pytest.approx(np.std(rates, ddof=1) / np.sqrt(10))
    half = accuracy.interval[1] - accuracy.value
    assert half == pytest.approx(2.2621572 * accuracy.standard_error, rel=1e-6)
    tar = figure(found, "tar", "fmr 0.01")
    fnmr = figure(found, "fnmr", "fmr 0.01")
    assert tar.value == 1 - fnmr.value
    assert tar.interval == pytest.approx((1 - fnmr.interval[1], 1 - fnmr.interval[0]))
    best = figure(found, "accuracy", "best threshold")
    assert best.value == pytest.approx(
        max(np.mean((similarity >= t) == mated) for t in [*similarity, np.inf])
    )
    assert best.interval[0] < best.value < best.interval[1]
    right = (similarity >= 0.4) == mated
    assert figure(found, "accuracy", "threshold").value == pytest.approx(right.mean())


def test_students_t_as_tables_have_it():
    assert [round(student_t(n), 3) for n in (1, 9, 30)] == [12.706, 2.262, 2.042]


def test_six_thousand_pairs_with_a_thousand_replicates_take_under_five_seconds():
    samples, pairs = lists(pairs_per_kind=3000, people=1500)
    start = time.perf_counter()
    evaluate(listed_scores(samples, pairs), threshold=0.4, fold=pairs.fold)
    assert time.perf_counter() - start < 5


def test_one_kind_only_says_which_is_missing():
    samples = made(people=1, each=4)
    with pytest.raises(BadInput, match="non-mated"):
        evaluate(cross_of(samples))


def data_of(samples):
    return from_database(of_samples(samples))


def system(samples, **more):
    return run(data_of(samples), embedder_id="one", replicates=200, **more)


def test_a_better_system_is_told_from_a_worse_one_and_mcnemar_counts_who_errs_alone():
    good, bad = made(noise=0.8), made(noise=1.1)
    one, other = system(good, threshold=0.45), system(bad, threshold=0.45)
    resampling = {VERIFICATION: resampling_of(one.verification.scored, 0, 500)}
    differences = {(d.name, d.at): d for d in compare(one.system, other.system, resampling)}
    fnmr = differences["fnmr", "threshold"]
    assert fnmr.difference < 0
    assert fnmr.interval[1] < 0
    assert fnmr.better > 0.99
    similarity, mated = brute(good)
    theirs, _ = brute(bad)
    mine_wrong, their_wrong = mated & (similarity < 0.45), mated & (theirs < 0.45)
    assert fnmr.only_this == (mine_wrong & ~their_wrong).sum()
    assert fnmr.only_other == (their_wrong & ~mine_wrong).sum()
    assert fnmr.p_value < 1e-4


def test_a_system_is_no_better_than_itself():
    one = system(made(), threshold=0.45)
    resampling = {VERIFICATION: resampling_of(one.verification.scored, 0, 200)}
    for d in compare(one.system, one.system, resampling):
        assert (d.difference, d.only_this, d.only_other) == (0, 0, 0)
        if d.interval is not None:
            assert d.better == 0.5
            assert d.interval[0] < 0 < d.interval[1]


def test_a_saved_result_compares_as_the_system_itself(tmp_path):
    one, other = system(made(noise=0.8)), system(made(noise=1.1))
    saved = tmp_path / "other.jsonl"
    saved.write_text("".join(json.dumps(r) + "\n" for r in records(other, saved=True)))
    resampling = {VERIFICATION: resampling_of(one.verification.scored, 0, 200)}
    assert compare(one.system, read_result(saved), resampling) == compare(
        one.system, other.system, resampling
    )
    with pytest.raises(BadInput, match="other data"):
        compare(system(made(people=29)).system, read_result(saved), resampling)
    saved.write_text("".join(saved.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(BadInput, match="not a whole result"):
        read_result(saved)
    for line, said in (("{", "line 1: is not JSON"), ("[" * 100_000, "nested too deep")):
        saved.write_text(f"{line}\n")
        with pytest.raises(BadInput, match=said):
            read_result(saved)
    saved.write_text('{"kind": "errors"}\n')
    with pytest.raises(BadInput, match="line 1"):
        read_result(saved)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    first, second, third = (
        [json.dumps(r) for r in records(system(made(), threshold=0.4, seed=s), saved=True)] for s in (0, 0, 1)
    )
    assert first == second
    assert first[:3] != third[:3]
    assert json.loads(first[-1])["kind"] == "signature"
    assert error_records([])[:1] == []


def test_groups_of_people_agree_with_loops(tmp_path):
    samples = made(failed=(2,))
    table = tmp_path / "subjects.csv"
    region = {s: "north" if s < "p012" else "south" for s in samples.subjects}
    table.write_text("subject,region\n" + "".join(f"{s},{r}\n" for s, r in region.items()))
    threshold = 0.42
    found = evaluate(cross_of(samples), threshold=threshold, replicates=100)
    group_of = read_groups(table, "region")
    rows = {
        r.group: r for r in by_people(found.scored, found.tails, threshold, group_of, seed=0, replicates=100)
    }
    similarity, mated = brute(samples)
    pairs = list(itertools.combinations(samples.subjects, 2))
    for name, row in rows.items():
        if name == ACROSS:
            inside = np.array([region[a] != region[b] for a, b in pairs])
        else:
            inside = np.array([region[a] == region[b] == name for a, b in pairs])
            assert row.fnmr.errors == (inside & mated & (similarity < threshold)).sum()
            assert row.fnmr.interval[0] <= row.fnmr.value <= row.fnmr.interval[1]
            assert row.people == sum(r == name for r in region.values())
        assert row.fmr.errors == (inside & ~mated & (similarity >= threshold)).sum()
        assert row.fmr.trials == (inside & ~mated).sum()
    assert list(rows) == ["north", "south", ACROSS]
    worst, best, ratio = worst_ratio(list(rows.values()), "fmr")
    assert ratio == rows[worst].fmr.value / rows[best].fmr.value >= 1
    assert max(rows[g].fmr_ratio for g in ("north", "south")) == ratio
    with pytest.raises(BadInput, match="no column 'colour'"):
        read_groups(table, "colour")


def test_a_database_has_the_groups_of_its_comparisons_listed_one_by_one():
    samples = made(noise=1.2)
    whole = cross_of(samples)
    i, j = np.triu_indices(len(samples), 1)
    one_by_one = ListedScores(cross_of(samples).comparisons, i, j, samples.paths, whole.people)
    group_of = {name: "north" if name < "p011" else "south" for name in whole.people}
    rows = [
        by_people(s, evaluate(s, replicates=100).tails, 0.4, group_of, seed=0, replicates=200)
        for s in (whole, one_by_one)
    ]
    for a, b in zip(*rows, strict=True):
        assert (a.group, a.people) == (b.group, b.people)
        for one, other in ((a.fmr, b.fmr), (a.fnmr, b.fnmr)):
            assert (one is None) == (other is None)
            if one is not None:
                assert (one.errors, one.trials) == (other.errors, other.trials)
                assert one.interval == pytest.approx(other.interval, rel=1e-6)


def test_groups_of_listed_pairs_need_no_people():
    samples, pairs = lists(noise=1.1)
    groups = tuple("even" if k % 2 == 0 else "odd" for k in range(len(pairs)))
    named = listed_scores(samples, pairs)
    bare = ListedScores(
        Comparisons(named.comparisons.similarity, pairs.mated), named.left, named.right, named.labels, ()
    )
    similarity = named.comparisons.similarity
    for scores in (named, bare):
        found = evaluate(scores, threshold=0.4, replicates=100)
        rows = by_pairs(scores, found.tails, 0.4, groups, pairs.mated, seed=0, replicates=100)
        for k, row in enumerate(rows):
            mine = np.arange(len(pairs)) % 2 == k
            assert row.fmr.errors == (mine & ~pairs.mated & (similarity >= 0.4)).sum()
            assert row.fnmr.errors == (mine & pairs.mated & (similarity < 0.4)).sum()
            assert row.fnmr.trials == (mine & pairs.mated).sum()


def test_the_worst_pairs_and_people_are_the_worst():
    samples = made(failed=(8,))
    similarity, mated = brute(samples)
    found = evaluate(cross_of(samples), threshold=0.42, replicates=100)
    pairs = worst_pairs(found, 5)
    usable = similarity > -np.inf
    assert [p.similarity for p in pairs[:5]] == sorted(similarity[~mated], reverse=True)[:5]
    assert [p.similarity for p in pairs[5:]] == sorted(similarity[mated & usable])[:5]
    for p in pairs:
        assert (p.left_subject == p.right_subject) is (p.kind != FALSE_MATCH)
        assert p.left.startswith(p.left_subject)
        assert p.error is ((p.similarity >= 0.42) == (p.kind == FALSE_MATCH))
    false = (similarity >= 0.42) & ~mated
    missed = (similarity < 0.42) & mated
    names = list(itertools.combinations(samples.subjects, 2))
    for person in people_with_errors(found):
        mine = np.array([person.subject in pair for pair in names])
        assert person.false_matches == (false & mine).sum()
        assert person.misses == (missed & mine).sum()
        assert person.n_mated == (mated & mine).sum()
        assert person.n_nonmated == (~mated & mine).sum()


def test_no_pair_is_shown_where_nothing_can_be_an_error():
    samples = made(people=4, each=2, noise=0.01)
    found = evaluate(cross_of(samples), threshold=0.9, replicates=100)
    pairs = worst_pairs(found)
    assert not any(p.error for p in pairs)
    # All four mated pairs and, of the others, the most alike.
    assert sum(p.kind != FALSE_MATCH for p in pairs) == 4
    assert people_with_errors(found) == []
    curve = curve_of(found.scored)
    assert figure(found, "eer").value == 0 == curve.eer().rate
    assert figure(found, "eer").interval[1] > 0


def test_what_calibration_or_training_has_seen_is_said():
    from facecli.calibration.calibration import marks
    from facecli.calibration.fit import calibrate

    samples = made()
    samples = Samples(
        samples.paths, samples.subjects, tuple(f"{k:064x}" for k in range(120)), samples.templates
    )
    labelled = of_samples(samples)
    same = calibrate(labelled.comparisons, labelled.provenance, embedder_id="one", replicates=100)
    nothing = {"image_marks": set(), "subject_marks": set()}
    texts = seen_before(data_of(samples), same, nothing)
    assert len(texts) == 2
    assert "120 of 120 images were in the data the thresholds were chosen on" in texts[0]
    assert "30 of 30 people" in texts[1]
    other = Samples(
        samples.paths,
        tuple("x" + s for s in samples.subjects),
        tuple(f"{k + 500:064x}" for k in range(120)),
        samples.templates,
    )
    assert seen_before(data_of(other), same, nothing) == []
    trained = {"image_marks": set(marks(other.digests[:3])), "subject_marks": set()}
    (text,) = seen_before(data_of(other), None, trained)
    assert "3 of 120 images were in the training data" in text


def test_a_checkpoint_remembers_what_it_was_trained_on(tmp_path):
    training = {"image_marks": "aa bb", "subject_marks": ["cc"]}
    contract = {"format": FORMAT, "version": VERSION, "training": training}
    (tmp_path / "model.json").write_text(json.dumps(contract))
    (tmp_path / "weights.pt").write_text("")
    seen = {"image_marks": {"aa", "bb"}, "subject_marks": {"cc"}}
    for name in (tmp_path, tmp_path / "model.json", tmp_path / "weights.pt"):
        assert training_marks(str(name)) == seen
    nothing = {"image_marks": set(), "subject_marks": set()}
    assert training_marks("dlib") == training_marks(str(tmp_path / "gone")) == nothing


def test_few_people_and_unknown_people_are_doubts():
    assert any("only 9 people" in w for w in system(made(people=9)).warnings)
    assert not any("people" in w for w in system(made(people=40)).warnings)
    scores = Comparisons(np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, True, False, False]))
    listed = ListedScores(scores, np.arange(4), np.arange(4), tuple("abcd"), ())
    data = EvalData("scores", "x", LabelledComparisons(listed))
    assert any("nobody says who is who" in w for w in run(data, embedder_id="s").warnings)
    with pytest.raises(UsageError, match="name the column that says the group"):
        run(data, embedder_id="s", groups_file="x.csv")
    with pytest.raises(UsageError, match="no column 'age'"):
        run(data, embedder_id="s", group_by="age")


def test_every_record_is_json_and_flat_rows_keep_to_the_columns():
    from facecli.evaluation.records import COLUMNS

    found = system(made(failed=(1,)), threshold=0.4)
    for record in records(found, saved=True):
        json.dumps(record, allow_nan=False)
        for row in flat(record):
            assert set(row) & set(COLUMNS)


NEVER = -np.inf


@pytest.mark.parametrize(
    ("mated", "nonmated"),
    [
        ([0.5], [0.5]),
        ([NEVER], [NEVER]),
        ([NEVER, 0.2], [0.3]),
        ([0.2], [NEVER, NEVER]),
        ([1.0, 1.0], [1.0, 1.0]),
        ([0.1], [0.9]),
        ([0.3] * 5, [0.3] * 50),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_the_smallest_and_strangest_data_come_out_whole(mated, nonmated, named):
    from facecli.evaluation.records import tables
    from facecli.evaluation.text_plot import det, histogram

    labels = np.array([True] * len(mated) + [False] * len(nonmated))
    left = np.zeros(labels.size, np.int32)
    people = (left, np.where(labels, left, 1).astype(np.int32)) if named else (None, None)
    scores = Comparisons(np.array([*mated, *nonmated]), labels, *people)
    rows = np.arange(labels.size)
    listed = ListedScores(scores, rows, rows, tuple(f"line {k}" for k in rows), ("a", "b") if named else ())
    columns = {"g": tuple("xy"[k % 2] for k in rows)}
    for threshold in (None, 0.5, -1.0):
        data = EvalData("scores", "x", LabelledComparisons(listed), columns=columns)
        found = run(data, embedder_id="s", threshold=threshold, replicates=100, group_by="g")
        for record in records(found, saved=True):
            json.dumps(record, allow_nan=False)
        assert list(tables(found))[0][0] == "Figures"
        det(found.verification.curve)
        assert histogram(found.verification.curve, found.verification.shared)
        for f in found.figures:
            assert f.interval is None or f.interval[0] <= f.value <= f.interval[1]
        at = found.verification.tails
        failed = mated.count(NEVER)
        assert at.missed(NEVER).size == failed == found.verification.failed[0]
        assert at.false(NEVER).size == len([s for s in nonmated if s > NEVER and s >= at.lowest])


def test_the_interval_at_a_fixed_fmr_moves_with_the_threshold():
    """Few false matches choose the threshold, so FNMR there is known less well than at a threshold set before."""
    found = evaluate(cross_of(made(people=60, each=3, noise=0.75)), replicates=500)
    fnmr = figure(found, "fnmr", "fmr 0.001")
    fixed = evaluate(cross_of(made(people=60, each=3, noise=0.75)), threshold=fnmr.threshold, replicates=500)
    at_threshold = figure(fixed, "fnmr", "threshold")
    assert at_threshold.value == fnmr.value
    assert np.ptp(fnmr.interval) > 1.3 * np.ptp(at_threshold.interval)
    # Drawing the people anew and choosing the threshold anew in each replicate comes to the same.
    comparisons = cross_of(made(people=60, each=3, noise=0.75)).comparisons
    drawn = [
        fnmr_at(*rates, 0.001)
        for rates in curve_replicates(comparisons, IdentityBootstrap(60, replicates=300))
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert fnmr.interval == pytest.approx((low, high), abs=0.35 * (high - low))
