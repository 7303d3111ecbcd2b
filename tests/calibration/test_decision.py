"""Where a threshold comes from, and that a decision never outruns the evidence behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import made_up_calibration

from facecli.calibration import decision, files
from facecli.calibration.decision import Rule, make_rule
from facecli.errors import BadInput, EmbedderMismatch, NoCalibration, NoSuchFile, UsageError

ID = "dlib-000000000000"


@pytest.fixture(scope="module")
def made():
    return made_up_calibration(ID)


@pytest.fixture
def installed(made, tmp_path):
    files.install(made, tmp_path)
    return tmp_path


def test_the_installed_calibration_gives_the_default_threshold(installed, made):
    found = make_rule(ID, user_dir=installed)
    point = made.threshold_for(1e-3)
    assert found.threshold == point.threshold
    assert found.point == point
    assert found.point.fmr <= 1e-3
    assert str(installed) in found.source


def test_a_smaller_fmr_gives_a_higher_threshold(installed):
    strict, loose = (make_rule(ID, user_dir=installed, fmr=fmr) for fmr in (1e-3, 1e-1))
    assert strict.threshold > loose.threshold
    assert strict.point.fmr < loose.point.fmr <= 0.1


def test_an_fmr_that_the_data_cannot_support_is_refused_with_the_number_it_takes(installed):
    with pytest.raises(NoCalibration, match=r"needs at least 300,000 non-mated comparisons.*has 6,000"):
        make_rule(ID, user_dir=installed, fmr=1e-5)


def test_a_threshold_set_by_hand_keeps_the_rates_that_are_known_there(installed):
    found = make_rule(ID, user_dir=installed, threshold=0.3)
    assert found.threshold == 0.3
    assert 0 < found.point.fmr < 0.1
    assert found.calibration is not None


def test_a_threshold_set_by_hand_needs_no_calibration(tmp_path):
    found = make_rule(ID, user_dir=tmp_path, threshold=0.9)
    assert found == Rule(0.9, None, None, "")
    judged = found.judge(0.95)
    assert judged.match
    assert judged.probability is None
    assert judged.fmr is None
    assert found.describe() == "threshold 0.9, set by hand: no calibration says how often it errs"


def test_without_calibration_and_threshold_nothing_is_invented(tmp_path):
    with pytest.raises(
        NoCalibration,
        match=f"nobody calibrated the embedder '{ID}'.*calibrate it on .*, or give a threshold",
    ):
        make_rule(ID, user_dir=tmp_path)


def test_a_calibration_file_stands_in_for_the_installed_one(installed, made, tmp_path):
    path = tmp_path / "mine.json"
    files.save(path, replace(made, notice="mine"))
    found = make_rule(ID, user_dir=installed, calibration=path)
    assert found.calibration.notice == "mine"
    assert found.source == f"calibration {path}"


def test_the_shipped_calibration_is_the_last_resort_and_says_so(monkeypatch, made, tmp_path):
    monkeypatch.setattr(files, "shipped", lambda embedder_id: made)
    found = make_rule(ID, user_dir=tmp_path)
    assert found.source == "the calibration that came with facecli"
    assert "the calibration that came with facecli" in found.describe()


def test_another_embedders_calibration_is_refused(made, tmp_path):
    path = tmp_path / "other.json"
    files.save(path, made)
    with pytest.raises(EmbedderMismatch, match=f"'{ID}', this is 'another'"):
        make_rule("another", user_dir=tmp_path, calibration=path)
    with pytest.raises(EmbedderMismatch):
        make_rule("another", user_dir=tmp_path, calibration=path, threshold=0.5)


def test_a_damaged_calibration_is_not_passed_over(installed):
    path = files.installed_path(ID, installed)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(BadInput, match=str(path)):
        make_rule(ID, user_dir=installed)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"threshold": 0.5, "fmr": 0.1}, UsageError, "threshold and fmr each set the threshold"),
        ({"threshold": 1.01}, UsageError, "1.01 is no similarity"),
        ({"threshold": float("nan")}, UsageError, "nan is no similarity"),
        ({"fmr": 0.0}, UsageError, "FMR of 0 is not between"),
        ({"fmr": 1.0}, UsageError, "FMR of 1 is not between"),
        ({"fmr": float("nan")}, UsageError, "FMR of nan is not between"),
        ({"prior": 0.0}, UsageError, "prior of 0 is not between"),
        ({"prior": 1.0}, UsageError, "prior of 1 is not between"),
        ({"prior": float("nan")}, UsageError, "prior of nan is not between"),
        ({"calibration": "/no/such.json"}, NoSuchFile, "/no/such.json"),
    ],
)
def test_values_out_of_range_are_refused(options, error, said, installed):
    with pytest.raises(error, match=said):
        make_rule(ID, user_dir=installed, **options)


def test_match_means_at_the_threshold_or_above_as_it_is_shown():
    judged = [Rule(0.9, None, None, "").judge(s) for s in (0.9, 0.8999999, 0.8999994, 0.9000001, -1.0)]
    assert [j.match for j in judged] == [True, True, False, True, False]
    assert [j.similarity for j in judged] == [0.9, 0.9, 0.899999, 0.9, -1.0]
    for j in judged:
        assert j.match == (j.similarity >= j.threshold)


def test_the_probability_rises_with_the_similarity_and_the_prior(installed):
    even = make_rule(ID, user_dir=installed)
    rare = make_rule(ID, user_dir=installed, prior=0.01)
    probabilities = [even.judge(s).probability for s in (0.2, 0.35, 0.45, 0.6)]
    assert probabilities == sorted(probabilities)
    assert probabilities[0] < 0.05
    assert probabilities[-1] > 0.95
    assert rare.judge(0.4).probability < even.judge(0.4).probability
    assert even.judge(0.4).match == rare.judge(0.4).match


def test_the_rule_in_one_sentence_names_rates_with_their_intervals(installed):
    text = make_rule(ID, user_dir=installed, fmr=0.01).describe()
    assert text.startswith("threshold 0.")
    assert text.count(" % (") == 2
    assert "FMR " in text
    assert "FNMR " in text
    assert text.endswith(f"calibration {files.installed_path(ID, installed)}")


def test_a_threshold_for_an_fpir_grows_with_the_gallery(installed):
    base = make_rule(ID, user_dir=installed)
    few, many = (decision.rule_for_fpir(base, 0.05, samples) for samples in (2, 40))
    assert few.threshold < many.threshold
    assert many.point.fmr <= 0.05 / 40 * 1.05
    with pytest.raises(
        NoCalibration, match="over 100,000 samples takes an FMR of .* the calibration has 6,000"
    ):
        decision.rule_for_fpir(base, 0.05, 100_000)
    with pytest.raises(UsageError, match="not between 0 and 1"):
        decision.rule_for_fpir(base, 0, 3)
    with pytest.raises(NoCalibration, match="there is none"):
        decision.rule_for_fpir(Rule(0.9, None, None, ""), 0.05, 3)


def test_a_checkpoint_brings_its_own_calibration_until_another_is_installed(tmp_path):
    known = made_up_calibration("trained-0123456789ab")
    beside = tmp_path / "best" / "calibration.json"
    files.save(beside, known)
    own = make_rule(known.embedder_id, user_dir=tmp_path / "user", fmr=0.1, beside=beside)
    assert own.calibration is not None
    assert own.source == f"calibration {beside}, made when the model was trained"
    files.install(known, tmp_path / "user")
    assert "user" in make_rule(known.embedder_id, user_dir=tmp_path / "user", fmr=0.1, beside=beside).source
    with pytest.raises(NoCalibration):
        make_rule(known.embedder_id, user_dir=tmp_path / "none", beside=tmp_path / "best" / "other.json")


def test_a_pair_of_poor_quality_needs_a_higher_similarity():
    rule = Rule(0.4, None, None, "")
    assert rule.judge(0.45, 0.1).threshold == 0.5
    assert not rule.judge(0.45, 0.1).match
    assert rule.judge(0.5, 0.1).match


def test_probability_is_of_what_is_left_above_the_pairs_own_threshold(installed):
    rule = make_rule(ID, user_dir=installed)
    assert rule.judge(0.9, 0.05).probability == rule.judge(0.85).probability
    unrated = rule.judge(0.9, rated=False)
    assert (unrated.fmr, unrated.fnmr, unrated.probability) == (None, None, None)
    assert unrated.match == rule.judge(0.9).match
    assert rule.rates(None)
    assert rule.rates(0.0)
    lowest = replace(rule, calibration=replace(rule.calibration, min_quality=25.0))
    assert lowest.rates(25.0)
    assert not lowest.rates(24.9)
