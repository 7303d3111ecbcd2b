"""Decoding: every mode and orientation upright, in true colours; nothing but `UnreadableImage` for the rest.

Most pictures here are four quadrants, red and green above blue and grey, so that a turn, a mirror image or a
wrong channel order cannot pass.
"""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import facecli
from facecli.errors import UnreadableImage
from facecli.photos.budget import PixelBudget, Share
from facecli.photos.decode import Image, decode

RED, GREEN, BLUE, GREY, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255)
QUADRANTS = [RED, GREEN, BLUE, GREY]
ORIENTATION = 0x0112
UPRIGHT = {
    1: [RED, GREEN, BLUE, GREY],
    2: [GREEN, RED, GREY, BLUE],
    3: [GREY, BLUE, GREEN, RED],
    4: [BLUE, GREY, RED, GREEN],
    5: [RED, BLUE, GREEN, GREY],
    6: [BLUE, RED, GREY, GREEN],
    7: [GREY, GREEN, BLUE, RED],
    8: [GREEN, GREY, RED, BLUE],
}
"""Orientation (Exif 2.32, 4.6.4 A) -> the stored quadrants in the order in which they are seen, row by row."""

# pytest puts its own warning filters before those of the library.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


def quadrants(width: int = 64, height: int = 48) -> PIL.Image.Image:
    pixels = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:] = RED, GREEN
    pixels[top:, :left], pixels[top:, left:] = BLUE, GREY
    return PIL.Image.fromarray(pixels)


def textured(width: int = 120, height: int = 96) -> PIL.Image.Image:
    coarse = np.random.default_rng(7).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def encode(picture: PIL.Image.Image, kind: str, **options) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    PIL.Image.init()
    if kind not in PIL.Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_orientation(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of `rows`, each with its filter byte (PNG specification, clauses 5 and 11)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
        for tag, body in chunks
    )


def corners(image: Image) -> np.ndarray:
    """Return the colours in the middle of the four quadrants, int [4, 3]."""
    height, width = image.pixels.shape[:2]
    rows, columns = [height // 4, height * 3 // 4], [width // 4, width * 3 // 4]
    return image.pixels[np.ix_(rows, columns)].reshape(4, 3).astype(int)


def refused(data: bytes, **options) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, path="dir/name.jpg", **options)
    assert caught.value.path == "dir/name.jpg"
    assert "\n" not in caught.value.what
    return caught.value


# Colours


def transparent_palette() -> bytes:
    picture = quadrants().quantize(8)
    red = picture.getpixel((1, 1))
    return encode(picture, "PNG", transparency=red)


def half_transparent(mode: str) -> PIL.Image.Image:
    picture = quadrants().convert(mode)
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:24, :32] = 0
    picture.putalpha(PIL.Image.fromarray(alpha))
    return picture


GREYS = [76, 150, 29, 128]
"""ITU-R 601-2 luma of the quadrants."""


def greys_of(mode: str, factor: float, dtype: type) -> PIL.Image.Image:
    grey = np.asarray(quadrants().convert("L")).astype(np.float64) * factor
    return PIL.Image.fromarray(
        np.round(grey).astype(dtype) if dtype is not np.float32 else grey.astype(dtype)
    )


def sixteen_bit_rows() -> bytes:
    rows = (np.array(QUADRANTS, np.uint16) * 257).astype(">u2").reshape(2, 6)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def as_rgb(greys: list[int]) -> list[tuple[int, int, int]]:
    return [(grey, grey, grey) for grey in greys]


COLOURS = {
    "JPEG": (lambda: encode(quadrants(), "JPEG", quality=95), QUADRANTS),
    "progressive JPEG": (lambda: encode(quadrants(), "JPEG", quality=95, progressive=True), QUADRANTS),
    "grey JPEG": (lambda: encode(quadrants().convert("L"), "JPEG", quality=95), as_rgb(GREYS)),
    "CMYK JPEG, Adobe": (lambda: encode(quadrants().convert("CMYK"), "JPEG", quality=95), QUADRANTS),
    "CMYK TIFF": (lambda: encode(quadrants().convert("CMYK"), "TIFF"), QUADRANTS),
    "PNG": (lambda: encode(quadrants(), "PNG"), QUADRANTS),
    "palette PNG": (lambda: encode(quadrants().quantize(8), "PNG"), QUADRANTS),
    "palette PNG, one colour transparent": (transparent_palette, [WHITE, GREEN, BLUE, GREY]),
    "RGBA PNG": (lambda: encode(half_transparent("RGB"), "PNG"), [WHITE, GREEN, BLUE, GREY]),
    "LA PNG": (lambda: encode(half_transparent("L"), "PNG"), [WHITE, *as_rgb(GREYS[1:])]),
    "RGB PNG, one colour transparent": (
        lambda: encode(quadrants(), "PNG", transparency=RED),
        [WHITE, GREEN, BLUE, GREY],
    ),
    "RGBA WebP": (lambda: encode(half_transparent("RGB"), "WEBP", lossless=True), [WHITE, *QUADRANTS[1:]]),
    "1-bit PNG": (
        lambda: encode(quadrants().convert("L").point(lambda grey: grey > 100, mode="1"), "PNG"),
        as_rgb([0, 255, 0, 255]),
    ),
    "16-bit grey PNG": (lambda: encode(greys_of("I;16", 257, np.uint16), "PNG"), as_rgb(GREYS)),
    "16-bit grey TIFF": (lambda: encode(greys_of("I;16", 257, np.uint16), "TIFF"), as_rgb(GREYS)),
    "16-bit RGB PNG": (lambda: png(2, 2, 16, 2, sixteen_bit_rows()), QUADRANTS),
    "16-bit PGM": (
        lambda: b"P5 2 2 65535\n" + (np.array(GREYS, ">u2") * 257).astype(">u2").tobytes(),
        as_rgb(GREYS),
    ),
    "text PPM": (
        lambda: b"P3\n# a comment\n2 2 255\n" + " ".join(str(v) for c in QUADRANTS for v in c).encode(),
        QUADRANTS,
    ),
    "float TIFF of 0 to 1": (lambda: encode(greys_of("F", 1 / 255, np.float32), "TIFF"), as_rgb(GREYS)),
    "float TIFF of 0 to 255": (lambda: encode(greys_of("F", 1, np.float32), "TIFF"), as_rgb(GREYS)),
    "float TIFF of 0 to 65,535": (lambda: encode(greys_of("F", 257, np.float32), "TIFF"), as_rgb(GREYS)),
    "32-bit TIFF of 0 to 65,535": (lambda: encode(greys_of("I", 257, np.int32), "TIFF"), as_rgb(GREYS)),
    "GIF": (lambda: encode(quadrants(), "GIF"), QUADRANTS),
    "animated GIF": (
        lambda: encode(quadrants(), "GIF", save_all=True, append_images=[quadrants().rotate(180)]),
        QUADRANTS,
    ),
    "animated WebP": (
        lambda: encode(
            quadrants(), "WEBP", lossless=True, save_all=True, append_images=[quadrants().rotate(180)]
        ),
        QUADRANTS,
    ),
    "MPO": (
        lambda: encode(
            quadrants(), "MPO", quality=95, save_all=True, append_images=[quadrants().rotate(180)]
        ),
        QUADRANTS,
    ),
    "BMP": (lambda: encode(quadrants(), "BMP"), QUADRANTS),
    "TIFF, LZW": (lambda: encode(quadrants(), "TIFF", compression="tiff_lzw"), QUADRANTS),
    "PPM": (lambda: encode(quadrants(), "PPM"), QUADRANTS),
    "JPEG 2000": (lambda: encode(quadrants(), "JPEG2000"), QUADRANTS),
    "AVIF": (lambda: encode(quadrants(), "AVIF", quality=95), QUADRANTS),
    "HEIC": (lambda: encode(quadrants(), "HEIF", quality=95), QUADRANTS),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_survive(name):
    make, expected = COLOURS[name]
    image = decode(make(), path="named.jpg")
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.scale == 1.0
    # Lossy coders and the rounding of luma move flat colours by a few levels.
    np.testing.assert_allclose(corners(image), expected, atol=6)


def test_the_adobe_marker_is_in_the_cmyk_picture_above():
    assert b"Adobe" in COLOURS["CMYK JPEG, Adobe"][0]()


def test_sixteen_bits_are_scaled_and_rounded_not_clipped():
    values = np.array([[0, 128, 129, 257, 32768, 65278, 65535]], np.uint16)
    data = encode(PIL.Image.fromarray(values), "PNG")
    # 65535 / 257 = 255, so v / 257 to the nearest.
    assert decode(data, path="x").pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255]


def test_floats_that_are_no_numbers_are_black():
    values = np.array([[np.nan, np.inf, -np.inf, -3.0, 0.5, 1.0]], np.float32)
    data = encode(PIL.Image.fromarray(values), "TIFF")
    assert decode(data, path="x").pixels[0, :, 0].tolist() == [0, 0, 0, 0, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_one_pixel_is_a_picture(kind):
    image = decode(encode(PIL.Image.new("RGB", (1, 1), WHITE), kind), path="x", at_least_px=1)
    assert (image.width, image.height, image.scale) == (1, 1, 1.0)
    assert image.pixels.shape == (1, 1, 3)
    assert image.pixels.min() > 250


# Orientation and scale


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(kind, orientation):
    data = encode(quadrants(), kind, exif=with_orientation(orientation))
    image = decode(data, path="x")
    assert (image.width, image.height) == ((48, 64) if orientation > 4 else (64, 48))
    assert image.pixels.shape == (image.height, image.width, 3)
    np.testing.assert_allclose(corners(image), UPRIGHT[orientation], atol=60)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_at_reduced_scale_too(orientation):
    data = encode(quadrants(1001, 701), "JPEG", exif=with_orientation(orientation))
    image = decode(data, path="x", at_least_px=120)
    assert (image.width, image.height) == ((701, 1001) if orientation > 4 else (1001, 701))
    assert image.scale == 1 / 8
    assert image.pixels.shape == ((126, 88, 3) if orientation > 4 else (88, 126, 3))
    np.testing.assert_allclose(corners(image), UPRIGHT[orientation], atol=60)


def test_a_heic_turned_by_its_container_is_not_turned_again_by_its_exif():
    data = encode(quadrants(), "HEIF", quality=95, exif=with_orientation(6).tobytes())
    assert b"irot" in data
    image = decode(data, path="x")
    assert (image.width, image.height) == (48, 64)
    np.testing.assert_allclose(corners(image), UPRIGHT[6], atol=60)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_ignored(value):
    image = decode(encode(quadrants(), "JPEG", exif=with_orientation(value)), path="x")
    np.testing.assert_allclose(corners(image), QUADRANTS, atol=60)


def test_damaged_metadata_does_not_cost_the_picture():
    exif = with_orientation(6).tobytes()
    for broken in (exif[:9], exif[:20], b"Exif\0\0" + b"\xff" * 40, b"Exif\0\0II*\0\xff\xff\xff\x7f"):
        image = decode(encode(quadrants(), "JPEG", exif=broken), path="x")
        np.testing.assert_allclose(corners(image), QUADRANTS, atol=60)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 400))
def test_reduction_keeps_the_longer_side_long_enough(width, height, at_least_px):
    image = decode(encode(PIL.Image.new("RGB", (width, height)), "JPEG"), path="x", at_least_px=at_least_px)
    decoded = image.pixels.shape[1], image.pixels.shape[0]
    assert (image.width, image.height) == (width, height)
    factor = round(1 / image.scale)
    assert image.scale in (1, 1 / 2, 1 / 4, 1 / 8)
    assert decoded == (-(-width // factor), -(-height // factor))
    assert factor == 1 or max(decoded) >= at_least_px
    # Twice the reduction would be too much, unless the shorter side ends before that.
    if factor < 8 and min(width, height) >= 16:
        assert -(-max(width, height) // (2 * factor)) < at_least_px


def test_a_reduced_picture_is_the_picture_averaged():
    data = encode(textured(800, 640), "JPEG", quality=95)
    full, small = decode(data, path="x"), decode(data, path="x", at_least_px=100)
    boxes = full.pixels.reshape(80, 8, 100, 8, 3).mean((1, 3))
    assert small.scale == 1 / 8
    assert np.abs(small.pixels - boxes).max() < 4


def test_only_jpeg_is_reduced():
    assert decode(encode(textured(), "PNG"), path="x", at_least_px=10).scale == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("at_least_px", "shape"), [(None, (5000, 20000, 3)), (640, (625, 2500, 3))])
def test_a_panorama_of_a_hundred_megapixels(at_least_px, shape):
    data = encode(PIL.Image.new("L", (20_000, 5_000), 77), "JPEG")
    share = Share(PixelBudget(100_000_000))
    image = decode(data, path="panorama.jpg", at_least_px=at_least_px, share=share)
    assert (image.width, image.height) == (20_000, 5_000)
    assert image.pixels.shape == shape
    assert (image.pixels[::500, ::500] == 77).all()


# Refusals


def test_a_bomb_is_refused_by_its_header():
    error = refused(png(50_000, 50_000, 8, 2, bytes(1000)))
    assert "is 50000 x 50000 px, more than the 52 megapixels" in str(error)


def announce(jpeg: bytes, width: int, height: int) -> bytes:
    """Return `jpeg` with another size in its frame header (ITU-T T.81, B.2.2)."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = jpeg.find(marker)
        if at >= 0:
            return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
    raise ValueError("no frame header")


def test_the_limit_is_on_the_pixels_that_are_kept_in_memory():
    plain = announce(encode(textured(), "JPEG"), 8_000, 8_000)
    assert "is 8000 x 8000 px" in str(refused(plain))
    assert decode(plain, path="x", at_least_px=640).pixels.shape == (1000, 1000, 3)
    progressive = announce(encode(textured(), "JPEG", progressive=True), 8_000, 8_000)
    assert "is 8000 x 8000 px" in str(refused(progressive, at_least_px=640))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"hello, I am a text file\n", "is text, not an image"),
        (b"<!doctype html><title>404</title>", "is text, not an image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(60), "is in no known format, not an image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is in no known format, not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is text, not an image"),
        (b"\x7fELF" + bytes(100), "is in no known format, not an image"),
        (b"\0", "is in no known format, not an image"),
        (b"\xff\xd8\xff", "is truncated: this JPEG lacks its end"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 60, "PNG"),
    ],
)
def test_what_is_no_image_is_said(data, words):
    assert words in str(refused(data))


def test_a_heic_without_its_decoder_names_what_to_install(monkeypatch):
    data = encode(textured(), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install 'facecli[heic]'" in str(refused(data))


FORMATS = {
    "JPEG": lambda: encode(textured(), "JPEG", exif=with_orientation(6)),
    "progressive JPEG": lambda: encode(textured(), "JPEG", progressive=True),
    "CMYK JPEG": lambda: encode(textured().convert("CMYK"), "JPEG"),
    "PNG": lambda: encode(textured(), "PNG", exif=with_orientation(6)),
    "palette PNG": lambda: encode(textured().quantize(16), "PNG", transparency=3),
    "WebP": lambda: encode(textured(), "WEBP", exif=with_orientation(6)),
    "lossless WebP": lambda: encode(textured(), "WEBP", lossless=True),
    "GIF": lambda: encode(textured().quantize(32), "GIF"),
    "BMP": lambda: encode(textured(), "BMP"),
    "TIFF": lambda: encode(textured(), "TIFF", exif=with_orientation(6)),
    "TIFF, LZW": lambda: encode(textured(), "TIFF", compression="tiff_lzw"),
    "TIFF, JPEG": lambda: encode(textured(), "TIFF", compression="jpeg"),
    "TIFF, G4": lambda: encode(textured().convert("1"), "TIFF", compression="group4"),
    "PPM": lambda: encode(textured(), "PPM"),
    "JPEG 2000": lambda: encode(textured(), "JPEG2000"),
    "AVIF": lambda: encode(textured(), "AVIF", exif=with_orientation(6)),
    "HEIC": lambda: encode(textured(), "HEIF"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_is_refused_and_never_half_a_picture(name):
    data = FORMATS[name]()
    whole = decode(data, path="x").pixels
    said = []
    for length in [*range(16, len(data), len(data) // 40), len(data) - 2, len(data) - 1]:
        try:
            image = decode(data[:length], path="cut.jpg")
        except UnreadableImage as error:
            said.append("truncated" in error.what)
        else:
            np.testing.assert_array_equal(image.pixels, whole)
    assert len(said) >= 35
    assert np.mean(said) > 0.8


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xd8\xff\xd9"}])
def test_a_jpeg_padded_with_zeros_is_truncated(options):
    noise = np.random.default_rng(5).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    data = encode(PIL.Image.fromarray(noise), "JPEG", **options)
    half = len(data) // 2
    assert "is truncated" in str(refused(data[:half] + bytes(len(data) - half)))


def test_a_jpeg_with_something_behind_its_end_is_whole():
    data = encode(textured(), "JPEG")
    whole = decode(data, path="x").pixels
    for tail in (bytes(5000), b"a film of the moment" * 500):
        np.testing.assert_array_equal(decode(data + tail, path="x").pixels, whole)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with bytes changed, removed or put in, more often near its head."""
    broken = bytearray(data)
    where = len(broken) if rng.random() < 0.5 else min(len(broken), 300)
    at = rng.randrange(where)
    match rng.randrange(4):
        case 0:
            del broken[max(at, 1) :]
        case 1:
            del broken[at : at + rng.randrange(1, 40)]
        case 2:
            broken[at:at] = rng.randbytes(rng.randrange(1, 40))
        case _:
            for _ in range(rng.randrange(1, 6)):
                broken[rng.randrange(where)] = rng.randrange(256)
    return bytes(broken) or b"\0"


@pytest.mark.parametrize("name", FORMATS)
def test_damage_gives_a_picture_or_an_error_and_nothing_else(name):
    data, rng = FORMATS[name](), random.Random(name)
    refusals = 0
    for _ in range(60):
        try:
            image = decode(damaged(data, rng), path="x", at_least_px=rng.choice([None, 20]))
        except UnreadableImage:
            refusals += 1
        else:
            assert image.pixels.dtype == np.uint8
            assert image.pixels.shape[2] == 3
    assert refusals > 5


# What a run sees of it


def python(*lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(facecli.__file__).parents[1],
    )


def test_nothing_is_printed_by_the_libraries_below(tmp_path):
    rng = random.Random(3)
    for name in ("TIFF, LZW", "TIFF, G4", "TIFF", "palette PNG", "GIF", "JPEG"):
        data = FORMATS[name]()
        for number in range(25):
            (tmp_path / f"{name} {number}.jpg").write_bytes(damaged(data, rng))
    # Pillow logs an error for so many samples a pixel (TIFF 6.0, tag 277).
    three, many = (struct.pack("<HHIHH", 277, 3, 1, samples, 0) for samples in (3, 76))
    plain = FORMATS["TIFF"]()
    assert three in plain
    (tmp_path / "samples.tif").write_bytes(plain.replace(three, many))
    done = python(
        "import sys",
        "from facecli.errors import UnreadableImage",
        "from facecli.photos.decode import decode",
        "from facecli.photos.find import find_images, read",
        f"for path in find_images([{str(tmp_path)!r}]):",
        "    try: decode(read(path), path=path)",
        "    except UnreadableImage: print('refused')",
    )
    assert done.stdout.count("refused") > 30
    assert done.stderr == ""


def test_importing_costs_numpy_and_pillow_and_no_more():
    done = python(
        "import numpy, PIL.Image, sys",
        "before = set(sys.modules)",
        "import facecli.photos.decode",
        "print(*sorted(set(sys.modules) - before))",
    )
    extra = {name.partition(".")[0] for name in done.stdout.split()}
    assert "facecli" in extra
    assert not extra & {"torch", "onnxruntime", "pillow_heif", "difflib", "ctypes", "PIL"}


def test_threads_do_not_disturb_each_other():
    files = [make() for make in FORMATS.values()] * 4
    alone = [decode(data, path="x").pixels for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: decode(data, path="x").pixels, files))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# Memory


def tiff(width: int, height: int, tile: int) -> bytes:
    """Return a grey TIFF of one deflated tile of zeros (TIFF 6.0, section 15)."""
    content = zlib.compress(bytes(tile * tile), 9)
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (277, 3, 1),
        (322, 4, tile),
        (323, 4, tile),
        (324, 4, 8),
        (325, 4, len(content)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory


def test_a_tiff_of_tiles_that_are_too_large_is_refused_by_its_header():
    small = tiff(64, 64, 100)
    assert decode(small, path="x").pixels.shape == (64, 64, 3)
    huge = small.replace(struct.pack("<HHII", 322, 4, 1, 100), struct.pack("<HHII", 322, 4, 1, 900_000))
    assert "its tiles are 900000 x 100 px" in str(refused(huge))


def gif(width: int, height: int, frames: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * frames + b";"


def text_bomb() -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(300_000_000), 9)
    return png(1, 1, 8, 2, b"\0\xff\xff\xff", (b"zTXt", text))


BOMBS = {
    "GIF, a tiny file of 196 megapixels": lambda: gif(14_000, 14_000, 1),
    "GIF of many frames": lambda: gif(6_000, 6_000, 2_000),
    "PNG of one bit a pixel": lambda: png(7_000, 7_000, 1, 0, bytes(7_000 * 876)),
    "PNG with transparency": lambda: png(6_000, 6_000, 8, 6, bytes(6_000 * 24_001)),
    "PNG with a long text": text_bomb,
    "TIFF of one large tile": lambda: tiff(64, 64, 16_000),
    "TIFF": lambda: tiff(7_000, 7_000, 7_008),
    "AVIF": lambda: encode(PIL.Image.new("RGB", (6_000, 6_000)), "AVIF", speed=10),
    "JPEG 2000 of one tile": lambda: encode(PIL.Image.new("L", (5_000, 5_000)), "JPEG2000"),
    "WebP": lambda: encode(PIL.Image.new("RGB", (6_000, 6_000)), "WEBP", method=0),
}
"""Small files that take much memory."""

PEAK = """
import sys
from pathlib import Path
from facecli.errors import UnreadableImage
from facecli.photos.decode import decode
import PIL.Image
def peak():
    # What getrusage says may be what the parent took.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
before = peak()
data = Path(sys.argv[1]).read_bytes()
try:
    decode(data, path="bomb")
    said = "decoded"
except UnreadableImage as error:
    said = str(error)
print((peak() - before) // 1024, said)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="its /proc tells the peak")
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_no_gigabyte(name, tmp_path):
    file = tmp_path / "bomb"
    file.write_bytes(BOMBS[name]())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(facecli.__file__).parents[1],
    )
    megabytes, _, said = done.stdout.partition(" ")
    assert int(megabytes) < 600, said
