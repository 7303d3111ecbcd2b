"""Evaluation of identification, held to naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecli.errors import BadInput
from facecli.evaluation.identification import evaluate_database, evaluate_probes
from facecli.stats import metrics
from facecli.trials.samples import Samples


def people(names, dim=8, noise=0.9, seed=0, failed=()):
    """Return a sample for each name, alike where the name is the same."""
    rng = np.random.default_rng(seed)
    centre = {name: np.random.default_rng(sum(map(ord, name))).standard_normal(dim) for name in names}
    rows = np.array([centre[name] + noise * rng.standard_normal(dim) for name in names])
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows[list(failed)] = np.nan
    paths = tuple(f"{name}/{k}.jpg" for k, name in enumerate(names))
    return Samples(paths, tuple(names), ("",) * len(names), rows)


def search(template, gallery, left_out=()):
    """Return the best similarity of each subject, {} for a failed probe."""
    best = {}
    if np.isnan(template).any():
        return best
    for k, (row, subject) in enumerate(zip(gallery.templates, gallery.subjects, strict=True)):
        if k in left_out or np.isnan(row).any():
            continue
        best[subject] = max(best.get(subject, -np.inf), float(template @ row))
    return best


def figure(found, name, at):
    (one,) = [f for f in found.figures if (f.name, f.at) == (name, at)]
    return one


NAMES = [f"{chr(65 + k // 3)}{k // 3}" for k in range(60)]
T = 0.6


@pytest.mark.parametrize("failed", [(), (0, 7, 30, 31, 32)])
def test_leaving_one_out_agrees_with_loops(failed):
    samples = people([*NAMES, "alone"], failed=failed)
    found = evaluate_database(samples, threshold=T, replicates=100)
    ranks, mates, strangers = [], [], []
    for k, subject in enumerate(samples.subjects):
        best = search(samples.templates[k], samples, left_out=(k,))
        others = [v for s, v in best.items() if s != subject]
        strangers.append(max(others, default=-np.inf))
        if subject == "alone":
            continue
        mate = best.get(subject, -np.inf)
        mates.append(mate)
        ranks.append(1 + sum(v >= mate for v in others) if mate > -np.inf else np.inf)
    ranks, mates, strangers = map(np.array, (ranks, mates, strangers))
    assert figure(found, "rank", "rank 1").value == pytest.approx((ranks <= 1).mean())
    assert figure(found, "rank", "rank 5").value == pytest.approx((ranks <= 5).mean())
    assert figure(found, "fnir", "threshold").errors == (mates < T).sum()
    assert figure(found, "fpir", "threshold").errors == (strangers >= T).sum()
    assert figure(found, "fpir", "threshold").trials == 61
    at = figure(found, "fnir", "fpir 0.1")
    assert (strangers >= at.threshold).mean() <= 0.1
    assert at.errors == (mates < at.threshold).sum()
    # No lower threshold keeps to the rate.
    lower = strangers[strangers < at.threshold].max()
    assert (strangers >= lower).mean() > 0.1
    assert found.unsupported == (0.01,)
    assert found.cmc[0] == pytest.approx((ranks <= 1).mean())
    assert found.cmc[-1] == pytest.approx(np.isfinite(ranks).mean())
    assert found.cmc[-1] == 1 or failed
    assert (np.diff(found.cmc) >= 0).all()
    for f in found.figures:
        assert f.interval[0] <= f.value <= f.interval[1]


def test_probes_of_people_not_enrolled_are_strangers_and_failures_are_misses():
    gallery = people(NAMES[:30], failed=(0, 1, 2))
    probes = people(NAMES, seed=5, failed=(10, 50))
    found = evaluate_probes(gallery, probes, threshold=T, replicates=100)
    assert found.mated.size == found.nonmated.size == 30
    mates, strangers = [], []
    for k, subject in enumerate(probes.subjects):
        best = search(probes.templates[k], gallery)
        if k < 30:
            mates.append(best.get(subject, -np.inf))
        else:
            strangers.append(max(best.values(), default=-np.inf))
    assert figure(found, "fnir", "threshold").errors == (np.array(mates) < T).sum()
    assert figure(found, "fpir", "threshold").errors == (np.array(strangers) >= T).sum()
    # The subject whose samples all failed, and the failed probe, are found at no rank.
    assert np.isinf(found.searches.rank[[0, 1, 2, 10]]).all()
    assert found.cmc[-1] == pytest.approx(26 / 30)
    clean = figure(found, "fnir", "threshold").without_failures
    usable = [m for k, m in enumerate(mates) if k != 10]
    assert clean == pytest.approx((np.array(usable) < T).mean())


def test_a_closed_set_has_no_fpir_and_strangers_alone_no_rank():
    gallery = people(NAMES[:30])
    closed = evaluate_probes(gallery, people(NAMES[:30], seed=1), threshold=T)
    assert {f.name for f in closed.figures} == {"rank", "fnir"}
    assert closed.curve is None
    strangers = evaluate_probes(gallery, people(NAMES[30:], seed=1), threshold=T)
    assert [f.name for f in strangers.figures] == ["fpir"]
    assert strangers.cmc is None


def test_fpir_with_one_enrolled_sample_is_fmr():
    gallery, probes = people(["A0"]), people(NAMES[3:])
    found = evaluate_probes(gallery, probes, threshold=0.1, replicates=100)
    similarity = probes.templates @ gallery.templates[0]
    assert figure(found, "fpir", "threshold").value == (similarity >= 0.1).mean()


def test_blocks_of_probes_change_nothing(monkeypatch):
    samples = people(NAMES)
    whole = evaluate_database(samples, threshold=T, replicates=100)
    monkeypatch.setattr("facecli.evaluation.identification.BLOCK_SCORES", 150)
    told = []
    parts = evaluate_database(
        samples, threshold=T, replicates=100, progress=lambda done, total: told.append((done, total))
    )
    assert whole.figures == parts.figures
    assert told[-1] == (60, 60)
    assert len(told) == 30


def test_a_sample_of_nobody_is_named():
    probes = people(NAMES)
    nameless = Samples(probes.paths, ("", *probes.subjects[1:]), probes.digests, probes.templates)
    with pytest.raises(BadInput, match=r"A0/0\.jpg: nobody knows"):
        evaluate_probes(probes, nameless)


@settings(max_examples=30)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=20), st.integers(-5, 5))
def test_fpir_over_one_sample_is_the_fmr(eighths, threshold):
    """A property of ISO/IEC 19795-1: with one sample enrolled, a search is a comparison."""
    scores = np.array(eighths) / 8
    rows = np.stack([scores, np.sqrt(1 - scores**2)], axis=1).astype(np.float32)
    names = tuple(f"stranger {k}" for k in range(len(rows)))
    probes = Samples(names, names, ("",) * len(names), rows)
    one = Samples(("enrolled",), ("enrolled",), ("",), np.array([[1, 0]], np.float32))
    found = evaluate_probes(one, probes, threshold=threshold / 8, replicates=100)
    assert figure(found, "fpir", "threshold").value == metrics.fmr(scores, threshold / 8)
