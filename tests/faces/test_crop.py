"""The one cutter: which faces it takes, how finely it decodes, and that all who cut get the same chips."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from facecli.errors import NoFace, SeveralFaces
from facecli.faces import align
from facecli.faces.choice import Choice
from facecli.faces.crop import cut
from facecli.faces.face import Face
from facecli.models.built_in import BUILT_IN
from facecli.photos.decode import decode
from facecli.training.chips import ChipCache

SPEC = BUILT_IN["dlib"]
SQUARE = replace(SPEC, template=None, crop_margin=0.1)


def face(left, top, side):
    points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    landmarks = tuple((left + x * side, top + y * side) for x, y in points)
    return Face((left, top, left + side, top + side), landmarks, 0.99)


class Told:
    """A detector that is told where the faces are."""

    min_face_px = 40

    def __init__(self, *faces):
        self.faces = list(faces)

    def all_faces(self, image):
        return self.faces

    def first_faces(self, decode, choice):
        return self.faces[:1], decode(600)


class Watched:
    """Decodes a JPEG of smooth noise, 1,600 x 1,200 px, and notes at which scales."""

    def __init__(self):
        noise = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        stream = io.BytesIO()
        PillowImage.fromarray(noise).resize((1600, 1200), PillowImage.Resampling.BICUBIC).save(stream, "JPEG")
        self.data = stream.getvalue()
        self.scales = []

    def __call__(self, at_least_px):
        image = decode(self.data, path="noise.jpg", at_least_px=at_least_px)
        self.scales.append(image.scale)
        return image


@pytest.mark.parametrize("spec", [SPEC, SQUARE], ids=["landmarks", "box"])
@pytest.mark.parametrize(("side", "scales"), [(900, [0.5]), (200, [0.5, 1.0])])
def test_a_small_face_is_cut_from_a_finer_decoding(spec, side, scales):
    decoded = Watched()
    told = face(300, 200, side)
    crops = cut(decoded, spec, Told(told), Choice(), path="noise.jpg")
    assert decoded.scales == scales
    assert (crops.width, crops.height, crops.n_faces) == (1600, 1200, 1)
    (crop,) = crops.chosen
    assert (crop.face, crop.index, crop.chip.dtype) == (told, 0, np.uint8)
    matrix = (
        align.similarity(told.landmarks, spec.template)
        if spec.template is not None
        else align.onto_square(told.box, spec.input_size, spec.crop_margin)
    )
    whole = align.chip(decode(decoded.data, path="noise.jpg").pixels, matrix, spec.input_size)
    assert np.abs(crop.chip.astype(int) - whole).mean() < 3


def test_the_finest_of_several_faces_decides():
    faces = (face(0, 0, 800), face(1000, 100, 90), face(1000, 600, 60))
    decoded = Watched()
    crops = cut(decoded, SPEC, Told(*faces), Choice("all"), path="noise.jpg")
    assert decoded.scales == [1.0]
    assert [crop.index for crop in crops.chosen] == [0, 1, 2]
    assert [crop.face for crop in crops.chosen] == list(faces)
    second = cut(Watched(), SPEC, Told(*faces), Choice(face=1), path="noise.jpg")
    assert (second.n_faces, [crop.index for crop in second.chosen]) == (3, [1])
    np.testing.assert_array_equal(second.chosen[0].chip, crops.chosen[1].chip)


def test_what_cannot_be_chosen_names_the_photo():
    with pytest.raises(NoFace, match=r"noise.jpg: no face of 40 px or more found in 1600 x 1200 px"):
        cut(Watched(), SPEC, Told(), Choice(), path="noise.jpg")
    with pytest.raises(SeveralFaces, match=r"noise.jpg: 2 faces found where one"):
        cut(Watched(), SPEC, Told(face(0, 0, 90), face(200, 0, 80)), Choice("one"), path="noise.jpg")


def test_without_a_detector_the_whole_photo_is_the_face():
    decoded = Watched()
    crops = cut(decoded, SPEC, None, Choice(), path="noise.jpg")
    assert decoded.scales == [0.25]
    (crop,) = crops.chosen
    assert crop.face == Face((0.0, 0.0, 1600.0, 1200.0), (), 1.0)
    assert crop.chip.shape == (SPEC.input_size, SPEC.input_size, 3)


@pytest.mark.parametrize("policy", ["largest", "center", "main"])
def test_training_cuts_the_chips_that_the_embedder_embeds(policy, embedder, people, cache_dir):
    chips = ChipCache(embedder.spec, cache_dir, False, 40, Choice(policy))
    photos = sorted(people.glob("*/1.jpg"))[:4]
    templates = embedder.templates(np.stack([chips(photo)[1] for photo in photos]))
    results = embedder.choosing(policy).embed((photo, None) for photo in photos)
    np.testing.assert_array_equal(templates, [result.faces[0].embedding for result in results])


def test_crops_are_trained_on_at_full_scale(tmp_path):
    photo = tmp_path / "noise.jpg"
    photo.write_bytes(Watched().data)
    _, chip = ChipCache(SPEC, tmp_path / "cache", True, 40, Choice())(photo)
    pixels = decode(photo.read_bytes(), path=photo).pixels
    np.testing.assert_array_equal(chip, align.whole(pixels, SPEC.input_size))
