"""Training from Python: the same run as the command's, in a folder that is the default where none is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import facecli


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for person in range(8):
        place = tmp_path / "people" / f"p{person}"
        place.mkdir(parents=True)
        for k in range(3):
            pixels = rng.integers(0, 50, (16, 16)) + 25 * person
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{k}.png")
    return tmp_path / "people"


SMALL = {
    "base": "small-cnn",
    "aligned": True,
    "dim": 8,
    "width": 4,
    "input_size": 16,
    "people": 3,
    "images": 2,
}


def test_a_run_is_told_of_kept_and_used(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    heard = []
    trained = facecli.train(
        folder, cache_dir=tmp_path / "cache", report=heard.append, epochs=1, val_share=0.3, **SMALL
    )
    assert trained.best.parent.resolve() == tmp_path / "run"
    assert [record["epoch"] for record in trained.records()] == [0, 1]
    kept = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert json.loads(json.dumps(trained.records())) == kept
    assert {type(event).__name__ for event in heard} >= {"Began", "Step", "EpochDone"}
    embedder = facecli.Embedder(str(trained.best), aligned=True, cache_dir=tmp_path / "cache")
    assert facecli.embed(folder / "p0" / "0.png", embedder=embedder).faces[0].embedding.shape == (8,)


def test_unknown_settings_and_folders_without_other_people_are_refused(folder, tmp_path):
    with pytest.raises(TypeError, match="epoch"):
        facecli.train(folder, out=tmp_path / "run", epoch=1)
    with pytest.raises(facecli.UsageError, match="validate on people of one kind"):
        facecli.train([folder, folder], out=tmp_path / "run", cache_dir=tmp_path / "cache", **SMALL)
