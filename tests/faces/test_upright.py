"""Turned and dark photos: found, put upright, and where their faces lie said in px of the photo as it lies."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import GROUP, iou, landmarks_apart
from PIL import Image as PillowImage
from PIL import ImageEnhance

from facecli.errors import NoFace, SeveralFaces
from facecli.faces.choice import Choice
from facecli.faces.face import Face
from facecli.faces.upright import TURNS, Turned
from facecli.models.built_in import BUILT_IN
from facecli.photos.decode import Image
from facecli.photos.source import named
from facecli.templates.embedder import Embedder
from facecli.training.chips import ChipCache

NAMES = ("Arthur", "Clara", "Felix", "Imani")


@pytest.fixture(scope="module")
def sface(cache_dir):
    return Embedder("sface", cache_dir=cache_dir, workers=1)


@pytest.fixture(scope="module")
def as_they_lie(sface):
    """The same networks with no word on lengths: nothing is turned or spread."""
    from copy import copy

    other = copy(sface)
    other.spec = replace(sface.spec, upright_length=None)
    return other


@pytest.fixture(scope="module")
def pictures(people):
    """Photos higher than wide: a width taken for a height would show."""
    return [
        PillowImage.open(people / name / "1.jpg").convert("RGB").crop((12, 0, 212, 224)) for name in NAMES
    ]


def clockwise(picture, degrees):
    return picture.rotate(-degrees, expand=True)


def turned_box(box, degrees, width, height):
    """Return where a box of a picture of this size lies once that is turned clockwise."""
    for _ in range(degrees // 90):
        left, top, right, bottom = box
        box = (height - bottom, left, height - top, right)
        width, height = height, width
    return box


@pytest.mark.parametrize("degrees", TURNS)
def test_turned_photos_are_found_and_embedded_upright(degrees, sface, pictures):
    straight = list(sface.embed(named(picture) for picture in pictures))
    turned = list(sface.embed(named(clockwise(picture, degrees)) for picture in pictures))
    for picture, before, after in zip(pictures, straight, turned, strict=True):
        (was,), (found,) = before.faces, after.faces
        assert (was.turned, found.turned) == (0, degrees)
        assert (after.width, after.height) == clockwise(picture, degrees).size
        assert iou(turned_box(was.face.box, degrees, *picture.size), found.face.box) > 0.95
        points = [turned_box((x, y, x, y), degrees, *picture.size)[:2] for x, y in was.face.landmarks]
        assert landmarks_apart(points, found.face.landmarks) < 0.02
        assert float(was.embedding @ found.embedding) >= 0.98
        assert found.quality.score == pytest.approx(was.quality.score, abs=2)


def test_upright_photos_are_embedded_as_they_always_were(sface, as_they_lie, people, group):
    photos = [*sorted(people.glob("*/[12].jpg")), group]
    for policy in ("largest", "center"):
        found = sface.choosing(policy).embed((photo, None) for photo in photos)
        plain = as_they_lie.choosing(policy).embed((photo, None) for photo in photos)
        for one, other in zip(found, plain, strict=True):
            assert one.faces[0].turned == 0
            assert (one.n_faces, one.faces[0].face) == (other.n_faces, other.faces[0].face)
            assert one.faces[0].embedding.tobytes() == other.faces[0].embedding.tobytes()


def test_other_networks_take_photos_as_they_lie(as_they_lie, pictures):
    for result in as_they_lie.embed(named(clockwise(picture, 180)) for picture in pictures):
        assert isinstance(result, NoFace) or result.faces[0].turned == 0


def test_no_face_at_any_turn_is_no_face(sface):
    (found,) = sface.embed([named(PillowImage.new("RGB", (300, 200), (90, 90, 90)), "blank.png")])
    assert isinstance(found, NoFace)
    assert str(found).startswith("blank.png: no face of 40 px or more found in 300 x 200 px")


@pytest.mark.parametrize("degrees", [90, 180])
def test_a_group_is_turned_as_one(degrees, sface, group):
    picture = PillowImage.open(group)
    photo = named(clockwise(picture, degrees))
    (straight,) = sface.choosing("all").embed([named(picture)])
    (turned,) = sface.choosing("all").embed([photo])
    assert turned.n_faces == straight.n_faces == len(GROUP)
    for was, found in zip(straight.faces, turned.faces, strict=True):
        assert (found.index, found.turned) == (was.index, degrees)
        assert iou(turned_box(was.face.box, degrees, *picture.size), found.face.box) > 0.9
        assert float(was.embedding @ found.embedding) > 0.9
    (third,) = sface.choosing("largest", 2).embed([photo])
    assert (third.faces[0].index, third.faces[0].turned) == (2, degrees)
    np.testing.assert_array_equal(third.faces[0].embedding, turned.faces[2].embedding)
    (central,) = sface.choosing("center").embed([photo])
    assert central.faces[0].turned == degrees
    (refused,) = sface.choosing("one").embed([photo])
    assert isinstance(refused, SeveralFaces)
    left, top, right, bottom = turned.faces[0].face.box
    assert f"(0: {right - left:.0f} x {bottom - top:.0f} px at {left:.0f},{top:.0f}, " in str(refused)


def test_a_face_picked_by_its_index_does_not_turn_the_photo(sface, group):
    every = next(sface.choosing("all").embed([(group, None)]))
    shortest = min(every.faces, key=lambda face: face.quality.length)
    assert shortest.index > 0
    sface_of_few = sface.choosing("largest", shortest.index)
    # Even where its own output is short: the main face tells which way is up.
    sface_of_few.spec = replace(sface.spec, upright_length=shortest.quality.length + 0.1)
    (picked,) = sface_of_few.embed([(group, None)])
    assert picked.faces[0].turned == 0
    np.testing.assert_array_equal(picked.faces[0].embedding, shortest.embedding)


def test_large_turned_photos_are_decoded_at_a_reduced_scale_too(sface, people):
    picture = PillowImage.open(people / "Clara" / "1.jpg").convert("RGB").resize((1800, 1800))
    results = []
    for degrees in (0, 90):
        stream = io.BytesIO()
        clockwise(picture, degrees).crop((0, 0, 1800, 1700)).save(stream, "JPEG", quality=95)
        results += sface.embed([(Path("large.jpg"), stream.getvalue())])
    straight, turned = results
    assert (turned.width, turned.height, turned.faces[0].turned) == (1800, 1700, 90)
    assert iou(turned_box(straight.faces[0].face.box, 90, 1800, 1800), turned.faces[0].face.box) > 0.9
    assert float(straight.faces[0].embedding @ turned.faces[0].embedding) >= 0.98


class Corner:
    """A detector that sees one face, 40 px wide and 60 high, at the top left of whatever it is shown."""

    min_face_px = 40

    def all_faces(self, image):
        self.shown = image
        return [Face((10.0, 5.0, 50.0, 65.0), ((20.0, 25.0),), 0.9)]

    def first_faces(self, decode, choice):
        image = decode(600)
        return self.all_faces(image), image


@pytest.mark.parametrize(
    ("degrees", "corner", "box", "point"),
    [
        (90, (0, -1), (235, 10, 295, 50), (275, 20)),
        (180, (-1, -1), (250, 135, 290, 195), (280, 175)),
        (270, (-1, 0), (5, 150, 65, 190), (25, 180)),
    ],
)
def test_places_are_turned_back(degrees, corner, box, point):
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[corner] = 255
    image = Image(pixels, 300, 200, 0.5)
    seen = Corner()
    (face,) = Turned(seen, degrees).all_faces(image)
    assert (seen.shown.pixels[0, 0] == 255).all()
    assert (seen.shown.width, seen.shown.height) == ((300, 200) if degrees == 180 else (200, 300))
    assert (face.box, face.landmarks, face.probability) == (box, (point,), 0.9)
    (first,), decoded = Turned(seen, degrees).first_faces(lambda at_least_px: image, Choice())
    assert (first, decoded.width, decoded.height, decoded.scale) == (face, 300, 200, 0.5)
    np.testing.assert_array_equal(decoded.pixels, pixels)


def test_dark_and_flat_photos_are_found_and_said_to_be_dark(sface, as_they_lie, pictures):
    dark = [ImageEnhance.Brightness(picture).enhance(0.1) for picture in pictures]
    flat = [ImageEnhance.Contrast(picture).enhance(0.1) for picture in pictures]
    good = list(sface.embed(named(picture) for picture in pictures))
    for kind in (dark, flat):
        assert any(isinstance(result, NoFace) for result in as_they_lie.embed(named(p) for p in kind))
        for was, found in zip(good, sface.embed(named(picture) for picture in kind), strict=True):
            assert iou(was.faces[0].face.box, found.faces[0].face.box) > 0.75
            assert float(was.faces[0].embedding @ found.faces[0].embedding) > 0.85
    for was, found in zip(good, sface.embed(named(picture) for picture in dark), strict=True):
        light = was.faces[0].quality.appearance.light
        assert found.faces[0].quality.appearance.light == pytest.approx(0.1 * light, abs=0.02)


def test_training_takes_photos_as_they_are(pictures, cache_dir, tmp_path):
    photo = tmp_path / "flat.png"
    ImageEnhance.Contrast(pictures[1]).enhance(0.35).save(photo)
    _, chip = ChipCache(BUILT_IN["sface"], cache_dir, False, 40, Choice())(photo)
    assert np.ptp(chip[30:80, 30:80].astype(int)) < 100
