"""What must not move from release to release: ids, templates and kept chips of photos enrolled long ago."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from facecli.faces.choice import Choice
from facecli.models.built_in import BUILT_IN
from facecli.templates.embedder import Embedder, embedder_id
from facecli.training.chips import ChipCache

KEY = "0" * 64


@pytest.fixture(scope="module")
def dlib(cache_dir):
    """The default of 0.1.0, whose databases are to stay usable."""
    return Embedder("dlib", cache_dir=cache_dir, workers=1, faces="largest")


def test_embedders_keep_their_ids(embedder, dlib, cache_dir):
    assert embedder.id == "sface-d08f5bdad2be"
    assert dlib.id == "dlib-d05d838513bb"
    assert Embedder("dlib", cache_dir=cache_dir, aligned=True).id == "dlib-aligned-9e85cc740316"


@pytest.mark.parametrize(
    ("model", "aligned", "held"),
    [
        ("dlib", False, "dlib-19c8820bf4f0"),
        ("dlib", True, "dlib-aligned-7dcb07619b70"),
        ("vggface2", False, "vggface2-fe5f933dec2d"),
        ("vggface2", True, "vggface2-aligned-129f11d116fa"),
    ],
)
def test_ids_are_kept_over_networks_that_are_not_here(model, aligned, held):
    assert embedder_id(BUILT_IN[model], KEY, aligned) == held


@pytest.mark.parametrize(
    ("model", "photo", "held"),
    [
        ("sface", "people/Clara/1.jpg", [0.1134895, -0.0534140, 0.0464758, 0.0968135, 0.0195855, 0.0811610]),
        ("sface", "people/Hugo/2.jpg", [0.0153066, -0.1016347, 0.0157135, 0.0830181, 0.1482977, 0.0783890]),
        (
            "dlib",
            "people/Clara/1.jpg",
            [-0.0913530, 0.0612966, 0.0539436, -0.0813068, -0.1016197, -0.0434790],
        ),
        ("dlib", "people/Hugo/2.jpg", [-0.0491498, 0.0696082, 0.0494425, -0.0525350, -0.0686313, 0.0970077]),
    ],
)
def test_templates_are_kept(model, photo, held, embedder, dlib, people):
    (result,) = {"sface": embedder, "dlib": dlib}[model].embed([(people.parent / photo, None)])
    np.testing.assert_allclose(result.faces[0].embedding[:6], held, atol=1e-5)


def test_templates_of_crops_are_kept(cache_dir, people):
    aligned = Embedder("dlib", cache_dir=cache_dir, aligned=True, workers=1)
    (result,) = aligned.embed([(people / "Clara" / "1.jpg", None)])
    held = [-0.0736915, 0.0584528, 0.0870383, -0.0644035, -0.0831021, -0.0130003]
    np.testing.assert_allclose(result.faces[0].embedding[:6], held, atol=1e-5)


@pytest.mark.parametrize(
    ("aligned", "faces", "folder", "mean"),
    [
        (False, "largest", "6b251cd494b824c1", [169.210, 125.375, 95.507]),
        (False, "center", "ea6f915090c057d6", [169.210, 125.375, 95.507]),
        (True, "largest", "bbd9a9e6e435e19f", [137.711, 105.487, 79.786]),
    ],
)
def test_training_chips_and_where_they_are_kept(aligned, faces, folder, mean, people, cache_dir):
    chips = ChipCache(BUILT_IN["dlib"], cache_dir, aligned, 40, Choice(faces))
    assert chips.folder == cache_dir / "chips" / folder
    photo = people / "Clara" / "1.jpg"
    digest, chip = chips(photo)
    assert digest == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert (chips.folder / digest[:2] / f"{digest[2:]}.npy").is_file()
    np.testing.assert_allclose(chip.mean(axis=(0, 1)), mean, atol=0.02)
