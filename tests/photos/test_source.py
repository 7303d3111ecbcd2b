"""Photos in the forms that callers have them: one photo gives one template, whatever form it comes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from facecli.errors import BadInput, NoSuchFile, UnreadableImage
from facecli.photos.decode import decode
from facecli.photos.source import decoder, named

ORIENTATION = 0x0112


@pytest.fixture
def png(people, tmp_path):
    path = tmp_path / "clara.png"
    PillowImage.open(people / "Clara" / "1.jpg").convert("RGB").save(path)
    return path


def pixels(photo):
    return decoder(named(photo))(None).pixels


def test_every_form_of_a_photo_gives_the_same_template(png, embedder):
    picture = PillowImage.open(png)
    forms = [png, str(png), png.read_bytes(), PillowImage.open(png), np.asarray(picture)]
    results = list(embedder.embed(named(form) for form in forms))
    for result in results:
        assert (result.width, result.height, result.n_faces) == (*picture.size, results[0].n_faces)
        assert result.faces[0].face == results[0].faces[0].face
        np.testing.assert_array_equal(result.faces[0].embedding, results[0].faces[0].embedding)


def test_names_go_into_messages_and_a_path_is_its_own():
    blank = np.zeros((4, 5, 3), np.uint8)
    assert named("a/b.jpg") == (Path("a/b.jpg"), None)
    assert named(b"x") == (Path("photo"), b"x")
    assert named(blank, "frame 7")[0] == Path("frame 7")
    assert named(PillowImage.fromarray(blank))[0] == Path("photo")
    with pytest.raises(NoSuchFile, match="gone.jpg"):
        decoder(named("gone.jpg"))
    with pytest.raises(UnreadableImage, match="frame 8: is text"):
        decoder(named(b"some text", "frame 8"))(None)


def test_an_array_is_taken_pixel_for_pixel_and_copied():
    given = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    turned = given[::-1, :, ::-1]
    name, image = named(turned)
    held = turned.copy()
    given[:] = 0
    np.testing.assert_array_equal(image.pixels, held)
    assert (image.width, image.height, image.scale) == (9, 7, 1.0)
    assert not image.pixels.flags.writeable
    assert decoder((name, image))(2) is image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_its_file_is(orientation, tmp_path):
    path = tmp_path / "turned.png"
    exif = PillowImage.Exif()
    exif[ORIENTATION] = orientation
    drawn = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    PillowImage.fromarray(drawn).save(path, exif=exif)
    np.testing.assert_array_equal(pixels(PillowImage.open(path)), decode(path.read_bytes(), path=path).pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_picture_of_any_mode_becomes_rgb_as_its_file_does(mode, tmp_path):
    path = tmp_path / "photo.tif"
    values = np.random.default_rng(2).integers(0, 60_000, (6, 8))
    picture = (
        PillowImage.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
        if mode in ("I;16", "I")
        else PillowImage.fromarray((values % 256).astype(np.uint8)).convert(mode)
    )
    if mode in ("LA", "P"):
        path = path.with_suffix(".png")
    picture.save(path)
    np.testing.assert_array_equal(pixels(PillowImage.open(path)), decode(path.read_bytes(), path=path).pixels)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 5, 3), np.float32), "photo: is an array of 4 x 5 x 3 float32 values; give H x W x 3"),
        (np.zeros((4, 5, 4), np.uint8), "4 x 5 x 4 uint8"),
        (np.zeros((4, 5), np.uint8), "4 x 5 uint8"),
        (np.zeros((0, 5, 3), np.uint8), "0 x 5 x 3 uint8"),
        (object(), "of the type object, not a photo"),
        (None, "of the type NoneType"),
    ],
)
def test_what_is_no_photo_is_refused_with_what_was_seen(array, said):
    with pytest.raises(BadInput, match=said):
        named(array)


def test_a_picture_that_cannot_be_decoded_is_unreadable(png, tmp_path, monkeypatch):
    cut = tmp_path / "cut.png"
    cut.write_bytes(png.read_bytes()[:3000])
    with pytest.raises(UnreadableImage, match="photo: cannot be decoded"):
        named(PillowImage.open(cut))
    monkeypatch.setattr("facecli.photos.decode.MAX_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="more than the 0.001 megapixels"):
        named(PillowImage.open(png))
