"""Quality: what spoils a photo is seen in the right part, lowers the score and asks for strictness."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from facecli.errors import LowQuality
from facecli.faces.quality import Appearance, judged, refusal
from facecli.templates.embedder import Embedder

GOOD = Appearance(2.0, 0.0, 1.0, 0.1, 0.5, 60.0, 0.5)


@pytest.fixture(scope="module")
def sface(cache_dir):
    return Embedder("sface", cache_dir=cache_dir, workers=1, min_quality=0)


@pytest.fixture(scope="module")
def photo(people):
    """Arthur's face is 60 px between the eyes."""
    return Image.open(people / "Clara" / "1.jpg").convert("RGB")


def quality_of(embedder, picture):
    (result,) = embedder.embed([_named(picture)])
    return result.faces[0].quality


def _named(picture):
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "photo.png", data.getvalue()


def jpeg(picture, quality):
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(io.BytesIO(data.getvalue()))


def masked(picture, face):
    covered = picture.copy()
    (_, _), (_, _), nose, left, right = face.landmarks
    pen = ImageDraw.Draw(covered)
    pen.rectangle((left[0] - 25, nose[1] - 5, right[0] + 25, left[1] + 60), fill=(150, 190, 215))
    return covered


def small(picture, share):
    size = [round(side * share) for side in picture.size]
    return picture.resize(size, Image.Resampling.LANCZOS).resize(picture.size, Image.Resampling.BICUBIC)


def noisy(picture):
    values = np.asarray(picture).astype(float) + np.random.default_rng(0).normal(
        0, 60, np.asarray(picture).shape
    )
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("part", "spoil", "at_least"),
    [
        ("softness", lambda image: image.filter(ImageFilter.GaussianBlur(5)), 0.5),
        ("softness", lambda image: small(image, 0.1), 0.5),
        ("blockiness", lambda image: jpeg(image, 3), 1.5),
        ("noise", noisy, 1.5),
        ("narrowness", lambda image: image.resize((round(0.6 * image.width), image.height)), 0.3),
    ],
)
def test_each_fault_is_seen_in_its_part_and_asks_for_strictness(sface, photo, part, spoil, at_least):
    before, after = quality_of(sface, photo), quality_of(sface, spoil(photo))
    assert getattr(after.appearance, part) > getattr(before.appearance, part) + at_least
    assert after.strictness > before.strictness + 0.02
    assert after.score <= before.score


def test_a_covered_face_and_a_dark_one(sface, photo):
    (result,) = sface.embed([_named(photo)])
    covered = quality_of(sface, masked(photo, result.faces[0].face))
    assert covered.appearance.covered > 0.4
    dark = quality_of(sface, photo.point(lambda value: value * 0.4))
    assert dark.appearance.light < 0.5 * result.faces[0].quality.appearance.light


def test_good_photos_have_little_to_complain_of(sface, people):
    photos = sorted(people.glob("[A-Z]*/*.jpg"))
    qualities = [result.faces[0].quality for result in sface.embed((path, None) for path in photos)]
    assert min(quality.score for quality in qualities) > 90
    assert np.median([quality.strictness for quality in qualities]) == 0
    assert max(quality.strictness for quality in qualities) < 0.15
    assert all(9 < quality.length < 18 for quality in qualities)


def test_crops_have_no_quality_and_other_networks_ask_for_nothing(cache_dir, people):
    path = people / "Clara" / "1.jpg"
    (crop,) = Embedder("sface", cache_dir=cache_dir, aligned=True, workers=1).embed([(path, None)])
    assert crop.faces[0].quality is None
    assert crop.faces[0].strictness == 0
    (other,) = Embedder("dlib", cache_dir=cache_dir, workers=1).embed([(path, None)])
    quality = other.faces[0].quality
    assert quality.length is None
    assert quality.strictness == 0
    assert quality.record()["eyes_px"] == pytest.approx(
        math.dist(*other.faces[0].face.landmarks[:2]), rel=1e-3
    )


def test_strictness_grows_with_each_fault_and_the_score_with_the_length():
    assert judged(GOOD, 12.7).strictness == 0
    assert judged(GOOD, 7.5).strictness == pytest.approx(0.1)
    worse = Appearance(3.6, 0.6, 4.4, 2.0, 3.1, 60.0, 0.5)
    assert judged(worse, 12.7).strictness == pytest.approx(0.14 + 0.1 + 0.3 + 0.12 + 0.2)
    scores = [judged(GOOD, length).score for length in (3.0, 6.0, 9.0, 12.0, 400.0)]
    assert scores == sorted(scores)
    assert scores[0] < 5
    assert scores[-1] == 100


@pytest.mark.parametrize(
    ("change", "says", "helps"),
    [
        ({"eyes_px": 8.0}, "small (8 px between the eyes)", "larger"),
        ({"softness": 3.5, "light": 0.1}, "dark and blurred", "more light"),
        ({"blockiness": 3.0}, "spoiled by compression", "original"),
        ({"narrowness": 0.6}, "turned away", "look into the camera"),
        ({"covered": 0.9}, "covered", "uncover"),
        ({}, "unlike the faces", "another picture"),
    ],
)
def test_a_refusal_says_why_and_what_would_help(change, says, helps):
    error = refusal(judged(Appearance(**{**vars(GOOD), **change}), 4.0), "a.jpg")
    assert isinstance(error, LowQuality)
    assert error.code == "low_quality"
    assert says in error.what
    assert helps in error.hint


def test_a_drawn_face_is_refused(cache_dir):
    picture = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((80, 90, 320, 350), fill=(255, 220, 180), outline="black", width=3)
    pen.pieslice((75, 80, 325, 300), 180, 360, fill="black")
    for x in (150, 250):
        pen.ellipse((x - 28, 170, x + 28, 220), fill="white", outline="black", width=3)
        pen.ellipse((x - 10, 185, x + 10, 210), fill="black")
    pen.polygon([(190, 240), (210, 240), (200, 262)], fill=(230, 170, 130), outline="black")
    pen.arc((150, 240, 250, 310), 20, 160, fill="black", width=5)
    (result,) = Embedder("sface", cache_dir=cache_dir, workers=1).embed([_named(picture)])
    assert isinstance(result, LowQuality)
    assert "drawn" in str(result)


def test_one_face_of_too_low_a_quality_is_an_error(sface, cache_dir, photo):
    spoiled = _named(photo.filter(ImageFilter.GaussianBlur(14)))
    strict = Embedder("sface", cache_dir=cache_dir, workers=1)
    (result,) = strict.embed([spoiled])
    assert isinstance(result, LowQuality)
    (enrolled,) = strict.enrol([spoiled])
    assert isinstance(enrolled, LowQuality)
    (shown,) = sface.embed([spoiled])
    assert shown.faces[0].quality.score < 25
    # Where all faces count, each carries its quality.
    (all_faces,) = strict.choosing("all").embed([spoiled])
    assert all_faces.faces[0].quality == shown.faces[0].quality
