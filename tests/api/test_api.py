"""The Python API: lazy, the same answers as the commands, photos in every form."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import facecli
from facecli.photos.decode import decode


@pytest.fixture
def own_folders(cache_dir, tmp_path, monkeypatch):
    """Let the defaults be the cache of the tests and an empty home."""
    monkeypatch.setattr("facecli.templates.embedder.default_cache_dir", lambda: cache_dir)
    monkeypatch.setattr("facecli.api.rule.default_user_dir", lambda: tmp_path / "home")
    return ["--cache", str(cache_dir), "--home", str(tmp_path / "home")]


def printed(folders, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "facecli", *folders, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_importing_costs_nothing_and_every_name_is_there():
    code = (
        "import sys; before = set(sys.modules); import facecli\n"
        "heavy = {'numpy', 'torch', 'PIL', 'onnxruntime', 'typer', 'rich'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)), [m for m in sys.modules if m.startswith('facecli.')])\n"
        "[getattr(facecli, name) for name in facecli.__all__]; print(set(facecli.__all__) <= set(dir(facecli)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\nTrue\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        facecli.nothing  # noqa: B018


def test_verify_is_what_the_command_prints(own_folders, people, probes):
    verdict = facecli.verify(people / "Clara" / "1.jpg", probes / "clara.jpg")
    assert verdict.match
    command = printed(own_folders, "verify", people / "Clara" / "1.jpg", probes / "clara.jpg")
    assert [json.loads(json.dumps(verdict.record()))] == command
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.match = False


def test_identify_is_what_the_command_prints(own_folders, people, probes):
    found = facecli.identify(probes / "hugo.jpg", people)
    assert [one.subject for one in found] == ["Hugo"]
    assert [one.record() for one in found] == printed(
        own_folders, "find", probes / "hugo.jpg", "--db", people
    )


def test_a_photo_in_any_form_has_the_same_verdict_and_template(own_folders, people, probes, tmp_path):
    embedder = facecli.Embedder(faces="all")
    image = decode((probes / "clara.jpg").read_bytes(), path="clara.jpg")
    png = tmp_path / "clara.png"
    PIL.Image.fromarray(image.pixels).save(png)
    forms = [png, str(png), png.read_bytes(), PIL.Image.open(png), np.asarray(image.pixels)]
    first, *others = [facecli.embed(photo, embedder=embedder).faces[0].embedding for photo in forms]
    for other in others:
        assert np.array_equal(first, other)
    one_face = embedder.choosing("largest")
    enrolled = people / "Clara" / "1.jpg"
    verdicts = [facecli.verify(photo, enrolled, embedder=one_face) for photo in forms]
    assert verdicts[0].match
    assert {dataclasses.replace(verdict, left="") for verdict in verdicts} == {
        dataclasses.replace(verdicts[0], left="")
    }
    assert [verdict.left for verdict in verdicts] == [str(png), str(png), "left", "left", "left"]


def test_photos_that_cannot_be_enrolled_are_a_warning_and_a_gallery_is_searched_as_it_stands(
    own_folders, people, probes, tmp_path
):
    db = tmp_path / "people"
    shutil.copytree(people, db)
    (db / "Clara" / "broken.jpg").write_bytes(b"no picture")
    embedder = facecli.Embedder(faces="all")
    with pytest.warns(UserWarning, match=r"1 photos cannot be used, first Clara/broken.jpg") as told:
        (face,) = facecli.identify(probes / "hugo.jpg", db, embedder=embedder)
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(UserWarning, match="cannot be used"):
        gallery = facecli.enrol(db, embedder=embedder)
    shutil.rmtree(db)
    assert facecli.identify(probes / "hugo.jpg", gallery, embedder=embedder) == [face]


def test_what_fails_is_a_face_error(own_folders):
    with pytest.raises(facecli.UnreadableImage) as error:
        facecli.embed(b"no picture")
    assert error.value.code == "unreadable"
    assert issubclass(facecli.UnreadableImage, facecli.FaceError)


def test_an_embedders_own_cache_folder_is_the_databases_too(cache_dir, people, probes, tmp_path, monkeypatch):
    def refuse():
        raise AssertionError("the default folder was asked for")

    monkeypatch.setattr("facecli.templates.embedder.default_cache_dir", refuse)
    monkeypatch.setattr("facecli.api.rule.default_user_dir", lambda: tmp_path / "home")
    embedder = facecli.Embedder(faces="all", cache_dir=cache_dir)
    assert facecli.identify(probes / "hugo.jpg", people, embedder=embedder)[0].subject == "Hugo"
