"""ONNX files that were given a name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from test_onnx_file import CONTRACT, DIM, SIZE, contract, write

from facecli.errors import BadInput, NoSuchFile, UsageError
from facecli.models import added, registry
from facecli.models.families import family


@pytest.fixture
def file(tmp_path):
    path = write(tmp_path / "mine.onnx")
    contract(path, CONTRACT)
    return path


@pytest.fixture
def user(tmp_path):
    return tmp_path / "user"


def test_a_file_becomes_a_name(file, user):
    before = registry.resolve(str(file))
    assert added.add(file, user_dir=user) == "mine"
    file.unlink()
    spec = registry.resolve("mine", user)
    assert (spec.name, spec.channel_order, spec.dim, spec.mirror) == ("mine", "BGR", DIM, True)
    assert spec.template == before.template
    assert registry.load_network(spec, cache_dir=user / "cache").name == "mine"
    assert added.names(user) == ["mine"]
    with pytest.raises(UsageError, match="unknown model 'mine'"):
        registry.resolve("mine", user / "other")


def test_the_same_again_is_no_clash_and_another_is(file, user):
    added.add(file, user_dir=user)
    assert added.add(file, user_dir=user) == "mine"
    with pytest.raises(UsageError, match="another model was added as 'mine'; remove it first"):
        added.add(file, user_dir=user, channel_order="RGB")
    added.add(file, user_dir=user, channel_order="RGB", name="other")
    assert registry.resolve("mine", user).channel_order == "BGR"
    assert registry.resolve("other", user).channel_order == "RGB"
    assert sorted(path.name for path in (user / "models").iterdir()) == ["mine", "other"]


def test_a_preset_takes_the_place_of_a_contract(tmp_path, user):
    file = write(tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=r"net\.json is missing"):
        added.add(file, user_dir=user)
    with pytest.raises(BadInput, match="takes .*8, 8.*the contract gives .*112, 112"):
        added.add(file, user_dir=user, preset="arcface112")
    assert not (user / "models").exists()
    contract(file, CONTRACT)
    with pytest.raises(UsageError, match="a contract lies beside"):
        added.add(file, user_dir=user, preset="arcface112")
    with pytest.raises(NoSuchFile):
        added.add(tmp_path / "none.onnx", user_dir=user, preset="arcface112")


def test_a_known_answer_comes_along(file, user):
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(file.parent / "face.png")
    contract(file, CONTRACT | {"known_answer": {"image": "face.png", "embedding": [1.0] * DIM}})
    added.add(file, user_dir=user)
    spec = registry.resolve("mine", user)
    answer = family(spec).known_answer(spec)
    assert answer.image == user / "models" / "mine" / "answer.png"
    assert answer.image.is_file()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "x.onnx", "a b"])
def test_names_that_are_none(file, user, name):
    with pytest.raises(UsageError, match="cannot name a model"):
        added.add(file, user_dir=user, name=name)
    assert added.path_of(name, user) is None


@pytest.mark.parametrize("name", ["sface", "SFace", "scrfd-10g", "small-cnn"])
def test_names_that_are_taken(file, user, name):
    with pytest.raises(UsageError, match="is taken"):
        added.add(file, user_dir=user, name=name)


def test_an_everyday_name_can_be_given(file, user):
    added.add(file, user_dir=user, name="arcface")
    assert registry.resolve("arcface", user).dim == DIM


def test_removing(file, user):
    with pytest.raises(UsageError, match="was not added; none was added"):
        added.remove("mine", user_dir=user)
    added.add(file, user_dir=user)
    with pytest.raises(UsageError, match=r"was not added; did you mean 'mine'\? added are mine"):
        added.remove("min", user_dir=user)
    with pytest.raises(UsageError, match="'sface' comes with facecli"):
        added.remove("sface", user_dir=user)
    with pytest.raises(UsageError, match="was not added"):
        added.remove("../models/mine", user_dir=user)
    added.remove("mine", user_dir=user)
    assert added.names(user) == []
    assert list((user / "models").iterdir()) == []


def test_a_folder_that_cannot_be_written(file, user):
    user.write_text("")
    with pytest.raises(UsageError, match="cannot be kept"):
        added.add(file, user_dir=user)


def test_the_contract_that_is_kept_says_what_was_meant(file, user):
    contract(file, {"preset": "arcface112", "input_size": SIZE, "template": "plain"})
    added.add(file, user_dir=user, channel_order="BGR")
    kept = json.loads((user / "models" / "mine" / "model.json").read_text())
    assert kept == {
        **{"preset": "arcface112", "input_size": SIZE, "template": "plain"},
        "channel_order": "BGR",
    }
