"""`calibrate` and `find --fpir` through the command line: what is printed, installed, refused and said."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from standin import gallery_of
from typer.testing import CliRunner

from facecli.calibration.calibration import CROSS_FITTED, IN_SAMPLE, OTHER_PEOPLE
from facecli.calibration.decision import make_rule
from facecli.calibration.files import installed_path, load, shipped
from facecli.cli.app import app
from facecli.config import DEFAULT_FMR
from facecli.files.atomic import write_atomic
from facecli.models.built_in import BUILT_IN
from facecli.models.registry import load_network
from facecli.recognition.false_alarms import false_alarms
from facecli.templates.embedder import embedder_id

TOY = "toy-0123456789ab"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def run(home, cache_dir):
    def invoke(*words, stdin=None):
        command = ["--home", str(home), "--cache", str(cache_dir), *map(str, words)]
        return CliRunner().invoke(app, command, input=stdin)

    return invoke


def simulated(people, seed, prefix="p"):
    """Return rows of all comparisons of three samples each: normal scores, a level of its own for each person."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 0.03, people)
    samples = [k for k in range(people) for _ in range(3)]
    rows = []
    for i, a in enumerate(samples):
        for b in samples[i + 1 :]:
            centre = 0.6 if a == b else 0.1 + level[a] + level[b]
            rows.append((round(float(rng.normal(centre, 0.1)), 6), f"{prefix}{a}", f"{prefix}{b}"))
    return rows


def write_scores(path, rows, *, named=True):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["similarity", "left_subject", "right_subject"] if named else ["similarity", "mated"])
        writer.writerows(rows if named else [(s, int(a == b)) for s, a, b in rows])
    return path


@pytest.fixture(scope="module")
def rows():
    return simulated(40, seed=1)


@pytest.fixture
def scores(tmp_path, rows):
    return write_scores(tmp_path / "scores.csv", rows)


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def by_target(result):
    return {r["target_fmr"] if r["name"] == "fmr" else r["name"]: r for r in records(result)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to calibrate on; give one of --pairs, --db, --scores or --restore"),
        (["--pairs", "p.csv", "--scores", "s.csv"], "more than one thing to calibrate on"),
        (["--pairs", "p.csv", "--restore"], "more than one thing to calibrate on"),
        (["--scores", "s.csv", "--cross"], "--cross goes with --pairs or --test"),
        (["--scores", "s.csv", "--root", "."], "--root goes with --pairs or --test"),
        (["--pairs", "p.csv", "--nonmated", "9"], "--nonmated goes with --db"),
        (["--pairs", "p.csv", "--embedder-id", TOY], "--embedder-id goes with --scores"),
        (["--restore", "--test", "t.csv"], "--restore takes no --test"),
        (["--pairs", "-", "--test", "-"], "stdin holds one list"),
        (["--pairs", "p.csv", "--faces", "all"], "'all' is not one of 'largest'"),
        (["--db", "people", "--faces", "center"], "a database enrols the main face"),
        (["--pairs", "p.csv", "--fmr", "1e-2,often"], "'often' is no false match rate"),
        (["--pairs", "p.csv", "--fmr", "1e-2,2"], "'2' is no false match rate"),
        (["--pairs", "p.csv", "--prior", "1"], "a prior of 1 is not between 0 and 1"),
        (["--pairs", "p.csv", "-o", "nowhere/c.json"], "nowhere/c.json: cannot be written"),
        (["--scores", "s.csv", "-o", "s.csv"], "s.csv: --output takes the calibration, which is JSON"),
        (["--scores", "s.csv", "-f", "xml"], "'xml' is not one of 'auto'"),
        (["--scores", "gone.csv"], "gone.csv: no such file"),
        (["--scores", "gone.csv", "--embedder-id", "a/b"], "gone.csv: no such file"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(run, words, message):
    result = run("calibrate", *words)
    assert message in result.stderr
    assert (result.exit_code, result.stdout) == (2, "")


def test_records_hold_the_rates_that_counting_gives(run, scores, rows):
    result = run("calibrate", "--scores", scores, "--fmr", "1e-2,1e-3", "--replicates", 200)
    assert result.exit_code == 0, result.stderr
    found = by_target(result)
    assert list(found) == ["eer", "accuracy", 1e-2, 1e-3]
    mated = np.array([s for s, a, b in rows if a == b])
    nonmated = np.array([s for s, a, b in rows if a != b])
    for target, record in found.items():
        assert record["chosen_fmr"] == np.mean(nonmated >= record["threshold"])
        assert record["chosen_fnmr"] == np.mean(mated < record["threshold"])
        assert (record["n_mated"], record["n_nonmated"], record["people"]) == (120, 7020, 40)
        assert record["basis"] == CROSS_FITTED
        for rate, errors, n in (("fmr", "false_matches", 7020), ("fnmr", "misses", 120)):
            assert record[rate] == record[errors] / n
            low, high = record[f"{rate}_interval"]
            exact_low, exact_high = record[f"{rate}_binomial"]
            assert low <= exact_low <= record[rate] <= exact_high <= high
        if isinstance(target, float):
            assert record["chosen_fmr"] <= target
            # One step down the typed decimals would be too many.
            assert np.mean(nonmated >= record["threshold"] - 2e-6) > target
    assert found[1e-3]["threshold"] > found[1e-2]["threshold"]
    assert "40 people" in result.stderr
    assert "Cllr" in result.stderr
    assert "not installed: nobody says which embedder made the scores" in result.stderr


def test_the_prior_moves_the_probability_and_no_threshold(run, scores):
    even, rare = (
        by_target(run("calibrate", "--scores", scores, "--no-install", "--replicates", 100, "--prior", prior))
        for prior in (0.5, 0.01)
    )
    assert rare[1e-2]["threshold"] == even[1e-2]["threshold"]
    p, q = even[1e-2]["probability"], rare[1e-2]["probability"]
    assert q / (1 - q) == pytest.approx(p / (1 - p) / 99, rel=0.01)
    assert rare[1e-2]["prior"] == 0.01


def test_a_target_that_the_data_cannot_support_changes_nothing(run, scores, home):
    result = run("calibrate", "--scores", scores, "--embedder-id", TOY, "--fmr", "1e-2,1e-4")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "FMR 0.0001 cannot be calibrated: 7,020 non-mated comparisons are there, 30,000 are needed"
        in result.stderr
    )
    assert not home.exists()


@pytest.mark.parametrize(("keep", "missing"), [(True, "non-mated"), (False, "mated")])
def test_one_kind_of_comparison_alone_is_refused(run, tmp_path, rows, keep, missing):
    path = write_scores(tmp_path / "s.csv", [r for r in rows if (r[1] == r[2]) is keep])
    result = run("calibrate", "--scores", path)
    assert result.exit_code == 2
    assert f"comparisons and no {missing} one" in result.stderr


def test_installing_replacing_and_restoring_say_what_is_in_force(run, scores, home, tmp_path, rows):
    words = ["calibrate", "--embedder-id", TOY, "--replicates", 100, "--scores"]
    first = run(*words, scores)
    path = installed_path(TOY, home)
    assert f"installed as {path}, in place of none" in first.stderr
    rule = make_rule(TOY, user_dir=home)
    assert rule.threshold == by_target(first)[DEFAULT_FMR]["threshold"]
    other = write_scores(tmp_path / "other.csv", simulated(40, seed=2))
    second = run(*words, other)
    assert (
        f"in place of the one installed before (the scores of scores.csv: threshold {rule.threshold:g} for FMR"
        in second.stderr
    )
    assert load(path).chosen_on.description == "the scores of other.csv"
    path.write_text("{")
    assert "in place of one that could not be read" in run(*words, other).stderr
    gone = run("calibrate", "--restore", "--embedder-id", TOY)
    assert gone.exit_code == 0
    assert f"removed {path}; in force now: no calibration came with facecli" in gone.stderr
    assert not path.exists()
    again = run("calibrate", "--restore", "--embedder-id", TOY)
    assert again.exit_code == 2
    assert "no calibration is installed here" in again.stderr


def test_a_home_that_cannot_be_written_is_an_error_with_its_name(run, scores, home):
    write_atomic(home, b"a file where a folder should be")
    result = run("calibrate", "--scores", scores, "--embedder-id", TOY, "--replicates", 100)
    assert result.exit_code == 2
    assert f"{installed_path(TOY, home)}: cannot be written" in result.stderr


def test_a_file_is_written_whole_with_its_provenance_and_the_same_bytes_again(run, scores, home, tmp_path):
    made = []
    for name in ("a.json", "b.json"):
        words = [
            "--embedder-id",
            TOY,
            "--replicates",
            100,
            "--seed",
            5,
            "--notice",
            "toys",
            "--description",
            "a toy",
        ]
        result = run("calibrate", "--scores", scores, *words, "-o", tmp_path / name)
        assert f"written to {tmp_path / name}, not installed" in result.stderr
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert not home.exists()
    found = load(tmp_path / "a.json")
    assert (found.notice, found.chosen_on.description, found.seed) == ("toys", "a toy", 5)
    assert (
        found.command == f"facecli calibrate --scores {scores} --embedder-id {TOY} --replicates 100 --seed 5"
    )
    rule = make_rule(TOY, user_dir=home, calibration=tmp_path / "a.json")
    assert rule.threshold == by_target(result)[DEFAULT_FMR]["threshold"]


def test_rates_come_from_other_people_where_they_are_given(run, scores, tmp_path, rows):
    strangers = write_scores(tmp_path / "t.csv", simulated(30, seed=3, prefix="q"))
    result = run("calibrate", "--scores", scores, "--test", strangers, "--replicates", 100)
    assert result.exit_code == 0
    record = by_target(result)[1e-2]
    assert (record["basis"], record["people"], record["n_mated"]) == (OTHER_PEOPLE, 30, 90)
    again = by_target(run("calibrate", "--scores", scores, "--replicates", 100))[1e-2]
    assert again["threshold"] == record["threshold"]
    assert record["fmr"] != again["fmr"]


def test_people_unknown_means_in_sample_rates_and_says_so(run, tmp_path, rows):
    path = write_scores(tmp_path / "s.csv", rows, named=False)
    result = run("calibrate", "--scores", path, "--quiet")
    assert result.exit_code == 0
    assert {r["basis"] for r in records(result)} == {IN_SAMPLE}
    assert "the very comparisons the thresholds were chosen on: nobody knows who is who" in result.stderr


def test_too_few_comparisons_for_the_default_rate_are_said_before_they_disappoint(run, tmp_path):
    path = write_scores(tmp_path / "s.csv", simulated(12, seed=1))
    result = run("calibrate", "--scores", path, "--replicates", 100)
    assert result.exit_code == 0
    assert "594 non-mated comparisons cannot support the default FMR of 0.001" in result.stderr
    assert "need an FMR of 0.0051 or more" in result.stderr
    assert list(by_target(result)) == ["eer", "accuracy", 0.1, 0.01]


def test_bad_rows_are_named_by_line_and_the_rest_goes_on(run, scores):
    text = scores.read_bytes().replace(b"\r\n", b"\r\noops,p1,p2\r\n", 1)
    result = run(
        "calibrate", "--scores", "-", "--no-install", "--replicates", 100, stdin=b"\xef\xbb\xbf" + text
    )
    assert result.exit_code == 2
    assert (
        "stdin: line 2: 'oops' is not a similarity; -inf stands for a failure; the row is left out"
        in result.stderr
    )
    assert by_target(result)["eer"]["n_nonmated"] == 7020


def test_every_format_shows_the_same_thresholds(run, scores):
    shown = {}
    for form in ("jsonl", "csv", "tsv", "table"):
        result = run("calibrate", "--scores", scores, "--replicates", 100, "--format", form)
        assert result.exit_code == 0
        shown[form] = result.stdout
    expected = [
        (r["name"], r["threshold"], r["fmr_interval"]) for r in map(json.loads, shown["jsonl"].splitlines())
    ]
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        table = list(csv.DictReader(io.StringIO(shown[form]), delimiter=delimiter))
        got = [(r["name"], float(r["threshold"]), [float(r["fmr_low"]), float(r["fmr_high"])]) for r in table]
        assert got == expected
    lines = shown["table"].splitlines()
    for line, (name, threshold, _) in zip(lines[-len(expected) :], expected, strict=True):
        assert line.split()[0] == name
        assert f"{threshold:.4f}" in line


@pytest.fixture
def photos(people, tmp_path):
    """A copy of the sample database, to be written to."""
    shutil.copytree(people, tmp_path / "people", ignore=shutil.ignore_patterns(".facecli"))
    return tmp_path / "people"


@pytest.fixture
def pairs(photos):
    """Some pairs of the sample people: each person's first two photos, and each with the next person."""
    names = sorted(p.name for p in photos.iterdir())
    lines = ["left,right,mated"]
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        lines.append(f"{name}/1.jpg,{name}/2.jpg,1")
        lines.append(f"{name}/1.jpg,{other}/2.jpg,0")
    path = photos / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_pairs_are_calibrated_installed_and_used_by_verify(run, pairs, photos, home):
    result = run("calibrate", "--pairs", pairs, "--cross", "--fmr", "0.05", "--replicates", 100)
    assert result.exit_code == 0, result.stderr
    record = by_target(result)[0.05]
    # 18 images of nine people, two each: 153 comparisons.
    assert (record["n_mated"], record["n_nonmated"], record["people"]) == (9, 144, 9)
    assert "in place of the one that came with facecli" in result.stderr
    a, b = photos / "Clara" / "3.jpg", photos / "Clara" / "4.jpg"
    used = run("verify", a, b, "--fmr", "0.05")
    assert json.loads(used.stdout)["threshold"] == record["threshold"]
    refused = run("verify", a, b)
    assert refused.exit_code == 2
    assert "needs at least 3,000 non-mated comparisons" in refused.stderr
    assert run("calibrate", "--restore").exit_code == 0
    assert run("verify", a, b).exit_code == 0
    other = run("verify", a, b, "--aligned")
    assert other.exit_code == 2
    assert "nobody calibrated the embedder" in other.stderr


def test_failures_are_listed_and_stay_in_the_denominators(run, pairs, photos):
    (photos / "Clara" / "2.jpg").write_bytes(b"")
    (photos / "Hugo" / "2.jpg").unlink()
    text = pairs.read_text() + "Basil/1.jpg,Basil/2.jpg,1\n"
    result = run(
        "calibrate", "--pairs", "-", "--root", photos, "--no-install", "--replicates", 100, stdin=text
    )
    assert result.exit_code == 2
    record = by_target(result)["eer"]
    assert (record["n_mated"], record["n_nonmated"]) == (10, 9)
    assert record["fnmr"] >= 0.2
    assert "Clara/2.jpg: is empty (0 bytes)" in result.stderr
    assert "Hugo/2.jpg: no such file" in result.stderr
    assert "images that could not be embedded: 2; their comparisons count as failures" in result.stderr
    assert "4 of them failed" in result.stderr
    assert "line 20 lists the pair of line 4 again: both are counted" in result.stderr


def test_what_is_wrong_with_a_list_is_said_before_anything_is_embedded(run, tmp_path):
    # No image of the list exists, and none is missed.
    lists = {
        "left,right,mated\na/1.jpg,a/2.jpg,1\nb/1.jpg,b/2.jpg,1\n": "has 2 mated comparisons and no non-mated one",
        "left,right\na1.jpg,a2.jpg\n": "do not say which of them are mated",
        "left,right,mated\na/1.jpg,a/2.jpg,1\na/1.jpg,b/2.jpg,0\n": "FMR 0.01 cannot be calibrated: 1 non-mated",
        "1\nAda\t1\t2\nAda\t1\tBob\t1\n": "FMR 0.01 cannot be calibrated: 1 non-mated",
    }
    for text, message in lists.items():
        (tmp_path / "p.csv").write_text(text)
        for source, stdin in ((tmp_path / "p.csv", None), ("-", text)):
            result = run("calibrate", "--pairs", source, "--fmr", "1e-2", stdin=stdin)
            assert result.exit_code == 2
            assert message in result.stderr
            assert "no such file" not in result.stderr


@pytest.mark.slow
def test_shared_people_and_images_are_said_and_kept(run, pairs, photos, tmp_path):
    shutil.copy(photos / "Clara" / "1.jpg", photos / "Hugo" / "9.jpg")
    names = ["Clara/1.jpg", "Hugo/9.jpg", "Imani/1.jpg", "Imani/2.jpg"]
    test = photos / "test.csv"
    test.write_text(f"left,right,mated\n{names[0]},{names[1]},0\n{names[2]},{names[3]},1\n")
    out = tmp_path / "c.json"
    result = run(
        "calibrate", "--pairs", pairs, "--test", test, "--replicates", 100, "-o", out, "--notice", "Mine."
    )
    assert result.exit_code == 0
    overlap = "3 images and 3 people are both in the data"
    assert overlap in result.stderr
    assert load(out).notice.startswith(f"Mine. {overlap}")
    assert (
        "Hugo/9.jpg and Clara/1.jpg are the same file under two names of people: one label must be wrong"
        in result.stderr
    )


@pytest.mark.slow
def test_a_database_is_calibrated_from_its_folders(run, photos):
    everything = run("calibrate", "--db", photos, "--no-install", "--replicates", 100, "--fmr", "0.01")
    assert everything.exit_code == 0, everything.stderr
    record = by_target(everything)[0.01]
    assert (record["n_mated"], record["n_nonmated"], record["people"]) == (54, 576, 9)
    drawn = [
        run(
            "calibrate",
            "--db",
            photos,
            "--nonmated",
            200,
            "--seed",
            seed,
            "--no-install",
            "--replicates",
            100,
        )
        for seed in (1, 1, 2)
    ]
    assert drawn[0].stdout == drawn[1].stdout != drawn[2].stdout
    assert by_target(drawn[0])["eer"]["n_nonmated"] == 200
    assert "200 non-mated and all mated comparisons of the database people" in drawn[0].stderr


@pytest.mark.slow
def test_templates_stand_in_for_a_database(run, photos, tmp_path):
    templates = tmp_path / "t.npy"
    assert run("embed", photos, "-o", templates).exit_code == 0
    options = ("--nonmated", 300, "--no-install", "--replicates", 100, "--fmr", "0.05")
    of_templates, of_photos = (run("calibrate", "--db", source, *options) for source in (templates, photos))
    assert of_templates.exit_code == 0, of_templates.stderr
    assert by_target(of_templates)[0.05]["n_nonmated"] == 300
    assert of_templates.stdout == of_photos.stdout


def test_a_calibration_ships_for_the_default_embedder(cache_dir):
    spec = BUILT_IN["dlib"]
    its_id = embedder_id(spec, load_network(spec, cache_dir=cache_dir).key, aligned=False)
    found = shipped(its_id)
    assert found is not None, f"run benchmarks/lfw_view1.py: nothing is calibrated for {its_id}"
    assert found.basis == OTHER_PEOPLE
    assert (found.chosen_on.n_images, found.chosen_on.n_nonmated) == (3443, 5_923_194)
    assert found.reported_on is not None
    assert (found.reported_on.n_mated, found.reported_on.n_nonmated) == (983, 1_197_943)
    assert "not every population" in found.notice
    assert "/" not in found.command
    point = found.threshold_for(DEFAULT_FMR)
    assert point.fmr_interval[0] <= DEFAULT_FMR
    assert point.fnmr < 0.08


@pytest.mark.slow
def test_find_chooses_the_threshold_by_fpir_and_checks_it_on_the_gallery(run, photos, probes):
    result = run("find", probes / "clara.jpg", "--db", photos, "--fpir", "0.1")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["fpir"]["target"] == 0.1
    assert record["fpir"]["probes"] == record["gallery"]["samples"] == 36
    assert record["fpir"]["measured"] == pytest.approx(record["fpir"]["false_alarms"] / 36, abs=1e-6)
    assert (
        "for an FPIR of 0.1 over 9 people (36 samples); checked by leaving each person out" in result.stderr
    )
    plain = json.loads(run("find", probes / "clara.jpg", "--db", photos).stdout)
    # 1 - (1 - FMR)^36 = 0.1 takes FMR 2.9e-3, which is looser than the default.
    assert record["threshold"] < plain["threshold"]
    assert plain["fpir"] is None
    assert record["expected_false_alarms"] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fpir", "0.01", "--fmr", "0.01"], "--fpir, --fmr and --threshold each set the threshold"),
        (["--fpir", "0.01", "--threshold", "0.9"], "--fpir, --fmr and --threshold each set the threshold"),
        (["--fpir", "2"], "an FPIR of 2 is not between 0 and 1"),
        # As `eval` has it: 3 / 0.01 searches.
        (
            ["--fpir", "0.01"],
            "an FPIR of 0.01 needs at least 300 samples to be checked on, 36 are enrolled; --fmr 0.00028 comes to that",
        ),
    ],
)
def test_an_fpir_that_cannot_be_had_is_refused(run, photos, probes, words, message):
    result = run("find", probes / "clara.jpg", "--db", photos, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def enrolled(folder, templates, subjects):
    return gallery_of(folder, templates, [(s, f"{k}.jpg", k) for k, s in enumerate(subjects)])


def test_false_alarms_agree_with_a_loop(monkeypatch, tmp_path):
    rng = np.random.default_rng(4)
    templates = rng.normal(size=(60, 4)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    subjects = [f"s{k // 3:02d}" for k in range(60)]
    # A few rows at a time, so that the blocks are tried too.
    monkeypatch.setattr("facecli.recognition.false_alarms.SEARCH_BYTES", 4 * 64 * 7)
    found = false_alarms(enrolled(tmp_path, templates, subjects), 0.95, 0.01)
    best = [
        max(float(templates[i] @ templates[j]) for j in range(60) if subjects[i] != subjects[j])
        for i in range(60)
    ]
    assert (found.errors, found.probes) == (sum(b >= 0.95 for b in best), 60)
    assert 0 < found.errors < 60
    assert found.closest[2] == pytest.approx(max(best), abs=1e-6)
    assert found.interval[0] < found.fpir < found.interval[1]


def test_a_person_enrolled_under_two_names_is_suspected(tmp_path):
    rng = np.random.default_rng(5)
    templates = rng.normal(size=(20, 64)).astype(np.float32)
    templates[10:] = templates[:10]
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    found = false_alarms(enrolled(tmp_path, templates, [f"s{k:02d}" for k in range(20)]), 0.9, 0.01)
    assert found.errors == 20
    assert found.above_target
    one, other, similarity = found.closest
    assert abs(int(one[1:3]) - int(other[1:3])) == 10
    assert similarity == pytest.approx(1)
    assert "is somebody enrolled under two names?" in found.suspect()
