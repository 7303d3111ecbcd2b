"""The `db` commands as their users see them."""

from __future__ import annotations

import csv
import json
import os
import pty
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from facecli.cli.app import app
from facecli.gallery.refresh import refresh
from facecli.gallery.store.folder import store_folders
from facecli.models import architectures, checkpoint
from facecli.training.start import base_spec

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory, people, embedder, cache_dir):
    """The sample database with a failing photo and a person who has no template, enrolled."""
    root = tmp_path_factory.mktemp("enrolled") / "people"
    shutil.copytree(people, root, ignore=shutil.ignore_patterns(".facecli"))
    (root / "Zoe").mkdir()
    for name in ("Clara/blank.png", "Zoe/blank.png"):
        Image.new("RGB", (300, 200), (90, 90, 90)).save(root / name)
    (root / "Clara" / "text.jpg").write_text("this is no photo")
    refresh(root, embedder.choosing("largest"), cache_dir=cache_dir)
    return root


@pytest.fixture
def here(enrolled, tmp_path, monkeypatch):
    """A folder to work in, with a copy of that database; its photos look older than they are."""
    shutil.copytree(enrolled, tmp_path / "people")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def facecli(here, cache_dir, tmp_path):
    environment = {"FACECLI_CACHE": str(cache_dir), "FACECLI_HOME": str(tmp_path / "home"), "COLUMNS": "200"}

    def run(command, stdin=None):
        return CliRunner(env=environment).invoke(app, shlex.split(command), input=stdin, prog_name="facecli")

    return run


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_status_says_what_is_there_and_what_failed(facecli, embedder):
    done = facecli("db status people --no-refresh")
    [record] = records(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert record["embedder_id"] == embedder.id
    assert {
        key: record[key] for key in ("subjects", "samples", "templates", "failed", "unused", "imported")
    } == {
        "subjects": 10,
        "samples": 36,
        "templates": 36,
        "failed": 3,
        "unused": 0,
        "imported": 0,
    }
    assert record["failures"] == [
        {"code": "no_face", "n": 2, "examples": ["Clara/blank.png", "Zoe/blank.png"]},
        {"code": "unreadable", "n": 1, "examples": ["Clara/text.jpg"]},
    ]
    assert (record["without_template"], record["state"]) == (["Zoe"], "complete")
    assert "photos" not in record
    # A copy: other inodes, so the next refresh will look at every file.
    [record] = records(facecli("db status people").stdout)
    assert sum(record["photos"].values()) == 39
    table = facecli("db status people -f table").stdout
    assert "2 no_face (Clara/blank.png, Zoe/blank.png); 1 unreadable (Clara/text.jpg)" in table
    rows = list(csv.DictReader(facecli("db status people --failures -f csv").stdout.splitlines()))
    assert [(row["path"], row["code"]) for row in rows] == [
        ("Clara/blank.png", "no_face"),
        ("Clara/text.jpg", "unreadable"),
        ("Zoe/blank.png", "no_face"),
    ]


def test_status_of_nothing_and_of_no_database(facecli, here):
    (here / "empty").mkdir()
    done = facecli("db status empty")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nobody is enrolled here; 'facecli embed --db empty' enrols the photos" in done.stderr
    done = facecli("db status nowhere")
    assert done.exit_code == 2
    assert done.stderr == "facecli: error: nowhere: no such folder, and no templates are kept for it\n"
    (here / "file").write_text("")
    assert facecli("db status file").stderr.startswith("facecli: error: file: not a folder")


def test_status_of_several_models_and_of_a_damaged_one(facecli, here, embedder):
    [folder] = (here / "people" / ".facecli").glob("sface-*")
    shutil.copytree(folder, folder.with_name("other-1"))
    (folder.with_name("other-1") / "index.sqlite").write_bytes(b"spoilt" * 1000)
    done = facecli("db status people -q")
    bad, good = records(done.stdout)
    assert done.exit_code == 2
    assert (good["embedder_id"], bad["embedder_id"]) == (embedder.id, "other-1")
    assert bad["error"]["code"] == "database"
    assert "index.sqlite is damaged" in bad["error"]["message"]


def test_check_finds_what_is_wrong_and_repairs_it(facecli, here):
    done = facecli("db check people --embed 3")
    [record] = records(done.stdout)
    assert (done.exit_code, done.stderr, record["sound"], record["embedded"]) == (0, "", True, 3)
    [matrix] = here.glob("people/.facecli/*/templates.npy")
    np.load(matrix, mmap_mode="r+")[5] = np.nan
    done = facecli("db check people -f csv")
    assert done.exit_code == 2
    assert "template_broken: the template is not of length 1" in done.stdout
    assert (
        "'facecli db check people --repair' forgets it, and the next refresh enrols it again" in done.stderr
    )
    done = facecli("db check people --repair")
    assert done.exit_code == 2
    assert records(done.stdout)[0]["repaired"]
    done = facecli("embed --db people")
    assert "36 photos with a template (1 new, 0 gone)" in done.stderr
    assert facecli("db check people").exit_code == 0


def test_check_of_a_model_that_nothing_is_kept_for(facecli, here):
    (here / "empty").mkdir()
    done = facecli("db check empty")
    assert done.exit_code == 2
    assert "nobody is enrolled here, nothing can be checked" in done.stderr
    done = facecli("db check people --aligned --embed 2")
    assert done.exit_code == 2
    assert "no templates of embedder sface-aligned-" in done.stderr


def test_gc_says_first_and_removes_then(facecli, here, embedder):
    (here / "people" / "Hugo" / "1.jpg").unlink()
    facecli("embed --db people -q")
    [folder] = (here / "people" / ".facecli").glob("sface-*")
    shutil.copytree(folder, folder.with_name("other-1"))
    planned = facecli("db gc people --dry-run --other-models")
    assert (planned.exit_code, planned.stderr.split()[-3:]) == (
        0,
        ["free", planned.stderr.split()[-2], "bytes"],
    )
    assert [record["removed"] for record in records(planned.stdout)] == [False, False]
    assert folder.with_name("other-1").exists()
    done = facecli("db gc people --other-models")
    assert [(record["what"], record["rows"]) for record in records(done.stdout)] == [
        ("store of another embedder", 36),
        ("templates that no sample shows", 1),
    ]
    assert not folder.with_name("other-1").exists()
    assert len(np.load(folder / "templates.npy")) == 35
    done = facecli("db gc people")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "facecli: people: freed 0 bytes\n")


def test_forget_lists_what_is_gone_and_says_what_is_left(facecli, here):
    done = facecli("db forget Hugo people")
    assert done.exit_code == 0
    [record] = records(done.stdout)
    assert (record["what"], record["samples"], record["templates"]) == ("samples and templates", 4, 4)
    assert (
        "warning: the 4 files in people/Hugo are still there: the next refresh enrols them again"
        in done.stderr
    )
    done = facecli("db forget Hugo people --photos -q")
    assert records(done.stdout) == [{"what": "4 photos", "path": "people/Hugo"}]
    assert not (here / "people" / "Hugo").exists()
    done = facecli("db forget Hugo people")
    assert done.exit_code == 2
    done = facecli("db forget Clarra people")
    assert done.stderr.endswith("no subject 'Clarra' among the 9 enrolled; did you mean 'Clara'?\n")
    assert facecli("db forget ../people people --photos").exit_code == 2


def test_what_is_exported_can_be_imported_and_found(facecli, here, embedder):
    done = facecli("db export people -o out.npy")
    assert done.stderr == "facecli: 36 templates of 128 numbers in out.npy, their table beside it\n"
    done = facecli("db import out.npy --db other")
    [record] = records(done.stdout)
    assert (done.exit_code, record["new"], record["subjects"], record["made"]) == (0, 36, 9, True)
    assert records(facecli("db import out.npy --db other").stdout)[0]["known"] == 36
    lines = facecli("db export people").stdout
    assert [record["subject"] for record in records(lines)][:5] == ["Arthur"] * 4 + ["Basil"]
    assert records(facecli("db import - --db other", stdin=lines).stdout)[0]["known"] == 36
    for option in ("--no-refresh", ""):
        done = facecli(f"find out.npy --db other {option} --threshold 0.9 --top 1 -f csv")
        assert done.exit_code == 0, done.stderr
        rows = list(csv.DictReader(done.stdout.splitlines()))
        assert [row["sample"] for row in rows] == [record["path"] for record in records(lines)]
    done = facecli("db import - --db other --subject Nemo", stdin=lines.splitlines()[0])
    assert records(done.stdout)[0]["new"] == 1
    [store] = store_folders(here / "other", here)
    assert store.embedder_id == embedder.id


def test_what_cannot_be_imported_is_refused_with_advice(facecli, here):
    facecli("db export people -o out.npy -q")
    done = facecli("db import out.npy --db other --aligned")
    assert done.exit_code == 2
    assert "use the model and options they were made with" in done.stderr
    done = facecli("embed people/Hugo/1.jpg -o one.npy")
    done = facecli("db import one.npy --db other")
    assert "one.csv: does not say whom the templates show; give --subject NAME" in done.stderr
    assert not (here / "other").exists()
    assert facecli("db import one.npy --db other --subject Hugo -q").exit_code == 0
    failed = '{"schema": "facecli.embed/1", "path": "b.jpg", "error": {"code": "no_face", "message": "none"}}'
    done = facecli("db import - --db other", stdin=failed)
    assert (done.exit_code, records(done.stdout)[0]["failed"]) == (2, 1)
    done = facecli("db import out.npy --db people")
    assert "36 templates were left out: the database has photos of that subject and name" in done.stderr
    done = facecli("db export empty -o x.npy")
    assert done.exit_code == 2
    assert not (here / "x.npy").exists()


@pytest.mark.slow
def test_migrate_reports_how_far_two_models_agree(facecli, here, embedder):
    torch.manual_seed(0)
    small = {"base": "small-cnn", "dim": 16, "width": 4}
    spec = base_spec("small-cnn")
    from dataclasses import replace

    checkpoint.save(
        here / "run",
        architectures.build(small),
        architecture=small,
        spec=replace(spec, name="mine", dim=16),
        training={},
    )
    done = facecli("db export people")
    facecli("db import - --db people --subject Nemo", stdin=done.stdout.splitlines()[0])
    done = facecli("db migrate people --to run")
    assert done.exit_code == 0, done.stderr
    [record] = records(done.stdout)
    assert (record["old"], record["embedded"], record["samples"], record["imported"]) == (
        embedder.id,
        36,
        36,
        1,
    )
    right = [record[key] for key in ("both_right", "only_old_right", "only_new_right", "neither_right")]
    assert (sum(right), record["probes"]) == (36, 36)
    # Random weights know nobody; the old model knows all nine.
    assert (right[0] + right[1], right[1] > 0) == (36, True)
    assert record["mated_pairs"] == 54
    assert -1 <= record["nonmated_correlation"] <= 1
    assert "1 imported templates have no photo and stay with" in done.stderr
    assert len(list((here / "people" / ".facecli").iterdir())) == 3
    done = facecli("db gc people --other-models --model run")
    assert "stays: no photo can bring its 1 imported templates back" in done.stderr
    assert len(store_folders(here / "people", here)) == 2
    done = facecli("db migrate people --to sface")
    assert done.exit_code == 2
    assert "both models are the same embedder" in done.stderr


@pytest.mark.parametrize("command", ["status", "check", "gc", "forget", "export", "import", "migrate"])
def test_help_shows_examples(facecli, command):
    done = facecli(f"db {command} --help")
    assert done.exit_code == 0
    assert "Examples" in done.stdout
    assert f"facecli db {command}" in done.stdout


def test_a_terminal_gets_a_table(here, cache_dir):
    master, slave = pty.openpty()
    env = {**os.environ, "FACECLI_CACHE": str(cache_dir), "COLUMNS": "110", "TERM": "xterm"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "facecli", "db", "status", "people", "--no-refresh"]
    subprocess.run(command, cwd=here, env=env, stdout=slave, stdin=subprocess.DEVNULL, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "embedder id" in shown
    assert "2 no_face" in shown


def test_a_store_that_a_killed_writer_left_half_written_is_told(facecli, here):
    [folder] = (here / "people" / ".facecli").glob("sface-*")
    with closing(sqlite3.connect(folder / "index.sqlite")) as db, db:
        db.execute("UPDATE facts SET value = 0 WHERE key = 'complete'")
    assert records(facecli("db status people").stdout)[0]["state"] == "incomplete"
