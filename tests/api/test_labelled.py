"""Calibrating and evaluating from Python: the same figures as the commands', on pairs, a database or scores."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import facecli


@pytest.fixture
def folders(cache_dir, tmp_path, monkeypatch):
    """Let the defaults be the cache of the tests and an empty home."""
    home = tmp_path / "home"
    monkeypatch.setattr("facecli.templates.embedder.default_cache_dir", lambda: cache_dir)
    for module in ("rule", "labelled"):
        monkeypatch.setattr(f"facecli.api.{module}.default_user_dir", lambda: home)
    return ["--cache", str(cache_dir), "--home", str(home)]


@pytest.fixture
def pairs(tmp_path, people):
    names = sorted(place.name for place in people.iterdir() if place.is_dir() and place.name[0] != ".")
    rows = [f"{a}/{j}.jpg,{b}/1.jpg,{int(a == b)}" for a in names for b in names for j in (2, 3)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["left,right,mated", *rows]))
    return path


def printed(folders, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "facecli", *folders, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_both_give_the_commands_records(folders, pairs, people):
    told = {"pairs": pairs, "root": people, "replicates": 100}
    calibration = facecli.calibrate(**told)
    given = ("--pairs", pairs, "--root", people, "--replicates", 100)
    assert json.loads(json.dumps(calibration.records())) == printed(
        folders, "calibrate", *given, "--no-install"
    )
    evaluation = facecli.evaluate(**told)
    assert json.loads(json.dumps(evaluation.records())) == printed(folders, "eval", *given)


def test_a_calibration_is_handed_on_or_installed(folders, pairs, people, probes):
    embedder = facecli.Embedder()
    calibration = facecli.calibrate(pairs=pairs, root=people, embedder=embedder, replicates=100)
    photos = people / "Clara" / "1.jpg", probes / "clara.jpg"
    shipped = facecli.verify(*photos, embedder=embedder, fmr=0.1)
    own = facecli.verify(*photos, embedder=embedder, fmr=0.1, calibration=calibration)
    assert own.threshold == calibration.threshold_for(0.1).threshold != shipped.threshold
    facecli.calibrate(pairs=pairs, root=people, embedder=embedder, replicates=100, install=True)
    assert facecli.verify(*photos, embedder=embedder, fmr=0.1) == own


def test_evaluating_a_database_searches_it_too(folders, people):
    evaluation = facecli.evaluate(db=people, replicates=100, threshold=0.9)
    assert {"1:1", "1:N"} <= {figure.task for figure in evaluation.figures}
    assert evaluation.signature.threshold == 0.9


def test_scores_need_no_embedder(folders, tmp_path):
    scores = tmp_path / "scores.csv"
    rows = [f"{0.5 + 0.005 * k},1\n{0.4 - 0.005 * k},0" for k in range(60)]
    scores.write_text("\n".join(["similarity,mated", *rows]))
    assert facecli.calibrate(scores=scores, targets=[0.05]).threshold_for(0.05).threshold <= 0.5
    assert facecli.evaluate(scores=scores, threshold=0.45).figures
    with pytest.raises(facecli.NoCalibration, match="3 / FMR"):
        facecli.calibrate(scores=scores, targets=[1e-3])
    with pytest.raises(facecli.UsageError, match="has no place"):
        facecli.calibrate(scores=scores, install=True)


@pytest.mark.parametrize(
    "told", [{}, {"pairs": "a.csv", "db": "people"}, {"scores": "a.csv", "db": "people"}]
)
@pytest.mark.parametrize("task", ["calibrate", "evaluate"])
def test_one_kind_of_data_is_named(folders, task, told):
    with pytest.raises(facecli.UsageError, match="nothing to compare, or more|compared already"):
        getattr(facecli, task)(**told)
