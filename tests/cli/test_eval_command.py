"""`eval` through the command line: what is printed, drawn, saved, compared, refused and said."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from facecli.cli.app import app
from facecli.templates.records import write_rows

VIEW1 = Path(__file__).parents[3] / "shared" / "data" / "lfw_view1"


@pytest.fixture
def run(tmp_path, cache_dir):
    def invoke(*words, stdin=None):
        command = ["--home", str(tmp_path / "home"), "--cache", str(cache_dir), "eval", *map(str, words)]
        return CliRunner().invoke(app, command, input=stdin)

    return invoke


@pytest.fixture(scope="module")
def enrolled(people, tmp_path_factory):
    """A copy of the sample database, which keeps its templates between tests."""
    copy = tmp_path_factory.mktemp("db") / "people"
    shutil.copytree(people, copy, ignore=shutil.ignore_patterns(".facecli"))
    return copy


def parsed(result, code=0):
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def kinds(records, kind, **more):
    return [r for r in records if r["kind"] == kind and all(r[k] == v for k, v in more.items())]


def one(records, kind, **more):
    (found,) = kinds(records, kind, **more)
    return found


def write_scores(path, *, shift=0.0, people=40, named=True):
    """Write two mated scores a person, and scores between neighbours; `shift` makes mated ones worse."""
    rng = np.random.default_rng(3)
    rows = []
    for k in range(people):
        rows += [(rng.normal(0.6 - shift, 0.1), f"p{k}", f"p{k}") for _ in range(2)]
        rows += [(rng.normal(0.1, 0.1), f"p{k}", f"p{(k + j) % people}") for j in range(1, 9)]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["similarity", "left_subject", "right_subject"] if named else ["similarity", "mated"])
        writer.writerows(rows if named else [(s, int(a == b)) for s, a, b in rows])
    return path, rows


def write_templates(path, embedder_id, names, rows):
    """Write templates as `embed -o` does."""
    np.save(path, rows)
    record = {"face": 0, "n_faces": 1, "box": [0, 0, 1, 1], "probability": 1.0, "embedder_id": embedder_id}
    with open(path.with_suffix(".csv"), "w", newline="") as file:
        write_rows(file, [{**record, "path": name} for name in names])


def toy(people=12, each=4, seed=0, noise=0.6):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.random.default_rng(9).standard_normal((people, 128)), each, axis=0)
    rows = rows + noise * rng.standard_normal(rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return [f"p{k // each:02d}/{k % each}.jpg" for k in range(people * each)], rows


def test_scores_of_any_tool_are_evaluated(run, tmp_path):
    path, rows = write_scores(tmp_path / "scores.csv")
    records = parsed(run("--scores", path, "--threshold", 0.4))
    fmr = one(records, "figure", name="fmr", at="threshold")
    assert fmr["errors"] == sum(s >= 0.4 for s, a, b in rows if a != b)
    assert fmr["low"] <= fmr["value"] <= fmr["high"]
    fnmr = one(records, "figure", name="fnmr", at="threshold")
    assert (fnmr["errors"], fnmr["trials"]) == (sum(s < 0.4 for s, a, b in rows if a == b), 80)
    worst = [r for r in records if r["kind"] == "pair" and r["name"] == "false match"][0]
    line = int(worst["left"].split()[1])
    assert rows[line - 2][0] == max(s for s, a, b in rows if a != b)
    assert records[-1]["kind"] == "signature"
    assert (records[-1]["people"], records[-1]["mated"], records[-1]["nonmated"]) == (40, 80, 320)


def test_scores_without_names_warn_that_intervals_are_too_narrow(run, tmp_path):
    path, _ = write_scores(tmp_path / "scores.csv", named=False)
    result = run("--scores", path)
    fnmr = one(parsed(result), "figure", name="fnmr", at="fmr 0.01")
    assert [fnmr["low"], fnmr["high"]] == [fnmr["binomial_low"], fnmr["binomial_high"]]
    assert "nobody says who is who" in result.stderr


def test_a_saved_result_is_compared_and_the_worse_one_loses(run, tmp_path):
    good, _ = write_scores(tmp_path / "good.csv")
    bad, _ = write_scores(tmp_path / "bad.csv", shift=0.25)
    saved = tmp_path / "bad.jsonl"
    assert run("--scores", bad, "--threshold", 0.4, "-o", saved).exit_code == 0
    records = parsed(run("--scores", good, "--threshold", 0.4, "--compare", saved))
    fnmr = one(records, "difference", name="fnmr", at="threshold")
    assert fnmr["high"] < 0 < fnmr["only_other"]
    assert fnmr["p_value"] < 0.01
    assert fnmr["better"] > 0.99
    assert one(records, "difference", name="fmr", at="threshold")["difference"] == 0
    other, _ = write_scores(tmp_path / "other.csv", people=39)
    result = run("--scores", other, "--compare", saved)
    assert result.exit_code == 2
    assert "other data" in result.stderr


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(run, tmp_path):
    path, _ = write_scores(tmp_path / "scores.csv")
    for again in (1, 2):
        options = ["--report", tmp_path / f"r{again}", "--plot", tmp_path / f"{again}" / "det.svg"]
        (tmp_path / f"{again}").mkdir()
        run("--scores", path, "--threshold", 0.4, "-o", tmp_path / f"{again}.jsonl", *options)
    for name in ("{}.jsonl", "r{}/index.html", "{}/det.svg"):
        one_, two = (tmp_path / name.format(k) for k in (1, 2))
        assert one_.read_bytes() == two.read_bytes()


def test_tables_and_pictures_of_characters_on_a_terminal(run, tmp_path):
    path, _ = write_scores(tmp_path / "scores.csv", shift=0.2)
    result = run("--scores", path, "--threshold", 0.35, "-f", "table")
    assert result.exit_code == 0
    for word in ("Figures", "FNMR over FMR", "non-mated", "threshold 0.350", "Worst pairs", "data digest"):
        assert word in result.stdout
    assert result.stdout.count("•") > 20
    assert result.stdout.rstrip().splitlines()[-1].startswith("facecli version")


def test_a_terminal_is_told_how_much_is_left_out(run, tmp_path, embedder):
    names, rows = toy()
    write_templates(tmp_path / "t.npy", embedder.id, names, rows)
    pairs = tmp_path / "pairs.csv"
    lost = [f"p00/0.jpg,gone/{k}.jpg,0" for k in range(7)]
    pairs.write_text("\n".join(["left,right,mated", "p00/0.jpg,p00/1.jpg,1", *lost]) + "\n")
    result = run("--pairs", pairs, "--templates", tmp_path / "t.npy", "-f", "table", "--report", tmp_path)
    assert "Failures, counted in (5 of 7)" in result.stdout
    assert result.exit_code == 2
    page = (tmp_path / "index.html").read_text()
    assert page.count("no_template: has no template") == 7


def test_csv_has_a_row_a_record_and_one_header(run, tmp_path):
    path, _ = write_scores(tmp_path / "scores.csv")
    rows = list(csv.DictReader(run("--scores", path, "-f", "csv").stdout.splitlines()))
    assert {r["kind"] for r in rows} >= {"figure", "pair", "signature"}
    assert rows[-1]["kind"] == "signature"


def test_pairs_of_templates_with_groups(run, tmp_path, embedder):
    names, rows = toy()
    write_templates(tmp_path / "t.npy", embedder.id, names, rows)
    pairs = tmp_path / "pairs.csv"
    lines = ["left,right,mated,light"]
    for k in range(12):
        lines.append(f"p{k:02d}/0.jpg,p{k:02d}/1.jpg,1,{'day' if k % 2 else 'night'}")
        lines.append(f"p{k:02d}/0.jpg,p{(k + 1) % 12:02d}/1.jpg,0,{'day' if k % 2 else 'night'}")
    pairs.write_text("\n".join([*lines, "p00/0.jpg,gone/9.jpg,0,day", "p00/0.jpg,,1,day"]) + "\n")
    result = run(
        "--pairs", pairs, "--templates", tmp_path / "t.npy", "--group-by", "light", "--threshold", 0.3
    )
    # A row that is wrong and an image without a template are said, and end in 2.
    records = parsed(result, code=2)
    assert "line 27" in result.stderr
    assert one(records, "failure", left="gone/9.jpg")["error"]["code"] == "no_template"
    groups = kinds(records, "group", name="fmr")
    assert [g["group"] for g in groups] == ["day", "night"]
    assert [g["trials"] for g in groups] == [7, 6]
    fmr = one(records, "figure", name="fmr", at="threshold")
    assert fmr["trials"] == 13
    assert one(records, "signature")["failed_samples"] == 1
    crossed = parsed(run("--pairs", pairs, "--templates", tmp_path / "t.npy", "--cross"), code=2)
    assert one(crossed, "signature")["mated"] == 12
    result = run("--pairs", pairs, "--templates", tmp_path / "t.npy", "--group-by", "age")
    assert (result.exit_code, "no column 'age' among 'light'" in result.stderr) == (2, True)


def test_a_gallery_and_probes_of_templates_open_set(run, tmp_path, embedder):
    names, rows = toy(people=40)
    half = len(names) // 2
    gallery, probes = tmp_path / "gallery.npy", tmp_path / "probes.npy"
    write_templates(gallery, embedder.id, names[:half], rows[:half])
    new, others = toy(people=40, seed=5)
    write_templates(probes, embedder.id, new, others)
    cmc = tmp_path / "cmc.png"
    records = parsed(run("--gallery", gallery, "--probes", probes, "--threshold", 0.4, "--plot", cmc))
    assert cmc.read_bytes().startswith(b"\x89PNG")
    assert one(records, "figure", name="fpir")["trials"] == half
    assert one(records, "figure", at="rank 1")["trials"] == half
    assert one(records, "figure", name="fnir", at="fpir 0.1")["high"] < 1
    assert records[-1]["nonmated_searches"] == half
    same = run("--db", gallery)
    assert one(parsed(same), "signature")["mated_searches"] == half


@pytest.mark.slow
def test_a_database_of_photographs_1_1_and_1_n(run, enrolled, tmp_path):
    subjects = tmp_path / "subjects.csv"
    names = sorted(p.name for p in enrolled.iterdir() if not p.name.startswith("."))
    subjects.write_text(
        "subject,half\n" + "".join(f"{n},{'first' if k < 4 else 'second'}\n" for k, n in enumerate(names))
    )
    photos = sorted(enrolled.glob("*/*.jpg"))
    faceless = enrolled / names[0] / "wall.png"
    from PIL import Image

    Image.new("RGB", (80, 80), (90, 120, 90)).save(faceless)
    result = run(
        "--db", enrolled, "--threshold", 0.93, "--group-by", "half", "--subjects", subjects,
        "--report", tmp_path / "report", "--plot", f"search={tmp_path / 'x.svg'}",
    )  # fmt: skip
    faceless.unlink()
    records = parsed(result)
    signature = records[-1]
    assert (signature["samples"], signature["failed_samples"]) == (len(photos) + 1, 1)
    assert one(records, "failure")["error"]["code"] == "no_face"
    rank = one(records, "figure", at="rank 1")
    assert rank["errors"] == 1
    assert rank["without_failures"] == 1
    assert {g["group"] for g in kinds(records, "group")} == {"first", "second", "(across groups)"}
    assert "only 9 people" in result.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/jpeg") >= 24
    assert "wall.png" in page


def test_another_model_is_tried_on_the_same_people(run, enrolled, tmp_path):
    report = tmp_path / "report"
    result = run("--db", enrolled, "--threshold", 0.9, "--compare", "dlib", "--report", report)
    records = parsed(result)
    differences = kinds(records, "difference")
    assert {d["task"] for d in differences} == {"1:1", "1:N"}
    # It is the same model, at its own threshold in force.
    same = [d for d in differences if d["at"] != "threshold"]
    assert all((d["difference"], d["only_this"], d["only_other"]) == (0, 0, 0) for d in same)
    assert "This system and dlib-" in (report / "index.html").read_text()


def lfw_folder(folder, people, *, folds, each):
    """Write `folder` in LFW's layout from {NAME: [photos]} and return it."""
    lines = [f"{folds}\t{each}"]
    names = list(people)
    for name, photos in people.items():
        (folder / name).mkdir(parents=True)
        for k, photo in enumerate(photos, start=1):
            shutil.copy(photo, folder / name / f"{name}_{k:04d}.jpg")
    paired = [name for name in names if len(people[name]) > 1]
    for fold in range(folds):
        here = [paired[(fold * each + k) % len(paired)] for k in range(each)]
        lines += [f"{name}\t1\t2" for name in here]
        lines += [f"{name}\t1\t{names[(names.index(name) + fold + 1) % len(names)]}\t1" for name in here]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


def check_lfw(records, folds, pairs):
    accuracy = one(records, "figure", name="accuracy", at=f"{folds} folds")
    assert accuracy["trials"] == pairs
    assert accuracy["standard_error"] is not None
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert one(records, "figure", name="eer")["value"] <= 1
    assert one(records, "figure", name="auc")["value"] > 0.9
    return accuracy["value"]


def test_lfws_own_layout_from_the_sample_people(run, people, tmp_path):
    photos = {p.name: sorted(p.glob("*.jpg"))[:2] for p in sorted(people.iterdir()) if p.is_dir()}
    photos = {name: found for name, found in photos.items() if found}
    folder = lfw_folder(tmp_path / "lfw", photos, folds=4, each=5)
    result = run("--lfw", folder)
    assert check_lfw(parsed(result), 4, 40) > 0.8
    assert "in more than one fold" in result.stderr
    result = run("--lfw", people)
    assert (result.exit_code, "has no pairs.txt" in result.stderr) == (2, True)


@pytest.mark.slow
def test_lfws_own_layout_from_lfws_development_photographs(run, tmp_path):
    if not VIEW1.is_dir():
        pytest.skip("the development photographs (../shared/data/lfw_view1) are not here")
    found = {p.name: sorted(p.glob("*.jpg")) for p in sorted(VIEW1.iterdir()) if p.is_dir()}
    several = {name: photos[:2] for name, photos in found.items() if len(photos) > 1}
    folder = lfw_folder(tmp_path / "lfw", dict(list(several.items())[:40]), folds=10, each=4)
    assert check_lfw(parsed(run("--lfw", folder)), 10, 80) > 0.9


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "nothing to evaluate"),
        (["--db", "a", "--pairs", "b"], "--pairs and --db each name the data"),
        (["--gallery", "a"], "--gallery and --probes go together"),
        (["--db", "a", "--cross"], "--cross goes with --pairs"),
        (["--db", "a", "--templates", "x.npy"], "--templates goes with --pairs"),
        (["--db", "a", "--faces", "center"], "enrols the main face"),
        (["--pairs", "a", "--faces", "all"], "'all' is not one of 'largest'"),
        (["--pairs", "a.csv"], "no such file"),
        (["--db", "a", "--plot", "map.png"], "unknown plot 'map'"),
        (["--db", "a", "--plot", "det.jpg"], "is no picture"),
        (["--pairs", "a", "--plot", "cmc.png"], "have no cmc"),
        (["--db", "a", "--plot", "gone/det.png"], "no such folder"),
        (["--db", "a", "--compare", "gone.jsonl"], "no such file"),
        (["--scores", "S", "--fmr", "0.01"], "no calibration"),
        (["--scores", "S", "--compare", "dlib"], "compared with a saved result"),
        (["--scores", "S", "--group-by", "x"], "no column 'x'"),
        (["--scores", "S", "--subjects", "x"], "says the group with --group-by"),
    ],
)
def test_what_cannot_be_asked_is_said_before_any_work(run, tmp_path, words, text):
    path, _ = write_scores(tmp_path / "scores.csv")
    result = run(*[path if word == "S" else word for word in words])
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stdout == ""


def test_one_kind_of_pairs_only_is_refused_before_embedding(run, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("left,right,mated\na/1.jpg,a/2.jpg,1\n")
    result = run("--pairs", pairs)
    assert result.exit_code == 2
    assert "pairs.csv: has 1 mated comparisons and no non-mated one" in result.stderr
    assert result.stdout == ""


def test_a_report_in_the_place_of_a_file_is_refused_before_the_work(run, tmp_path):
    scores, place = tmp_path / "scores.csv", tmp_path / "taken"
    scores.write_text("similarity,mated\n0.9,1\n0.8,1\n0.1,0\n0.2,0\n")
    place.write_text("mine")
    done = run("--scores", scores, "--report", place)
    assert done.exit_code == 2
    assert "a file has this name" in done.stderr
    assert done.stdout == ""
    assert place.read_text() == "mine"
