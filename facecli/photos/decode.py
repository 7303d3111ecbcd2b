"""Decodes photographs: from here on an image is RGB, uint8, [H, W, 3], the right way up.

The content decides the format, never the ending. A file is decoded whole or refused: what Pillow raises, and
that is a dozen kinds of exception, becomes `UnreadableImage`. Colour profiles are not applied.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from facecli.config import MAX_PIXELS
from facecli.errors import UnreadableImage
from facecli.photos.budget import Share

# Damaged metadata is none of the user's business while the pixels are fine, and bombs are refused here. One
# filter for good, because `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_CODECS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "PNM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "JPEG 2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ("pillow_heif", "HeifImageFile"),
}
"""Format -> the module and class that decode it. Called directly: `PIL.Image.open` would load every plugin
(one of which runs Ghostscript) and refuse large pictures before they can be decoded at reduced scale."""

_INSTALL = {
    "HEIC": "pip install 'facecli[heic]', or convert it to JPEG",
    "AVIF": "pip install --upgrade pillow, or convert it to JPEG",
}

_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
)
"""What decoders raise on damaged files, over the versions of Pillow that are supported."""

_AS_STORED: dict[object, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright[:, ::-1].transpose(1, 0, 2),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: upright[::-1].transpose(1, 0, 2),
}
"""EXIF orientation (Exif 2.32, tag 0x0112) -> the view of an upright picture as it is stored."""

_LYING = (5, 6, 7, 8)
"""The orientations in which width and height change places."""

_ORIENTATION = 0x0112

_STRIP_PX = 1_000_000
"""Pixels that are converted at once."""

_TILE = (0x0142, 0x0143)
"""Width and height of a TIFF's tiles (TIFF 6.0, section 15)."""

_JPEG_END = b"\xff\xd9"

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)


AS_DECODED = (0.0, 255.0)
"""The levels of a photo that nobody has spread."""


@dataclass(frozen=True)
class Image:
    """A decoded photograph.

    `pixels` is uint8 [H, W, 3], RGB, upright, read-only, perhaps at reduced scale. `width` and `height` are
    the original size in px, upright. `scale` is decoded px per original px: 1, 1/2, 1/4 or 1/8; H and W are
    rounded up, so a place found in `pixels` is exact at the original scale to within one decoded pixel.
    `levels` are the grey levels of the photo that 0 and 255 stand for.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    scale: float = 1.0
    levels: tuple[float, float] = AS_DECODED


def decode(
    data: bytes,
    *,
    path: str | os.PathLike[str],
    at_least_px: int | None = None,
    share: Share | None = None,
) -> Image:
    """Return the picture in `data`; `path` only names it in errors.

    The first frame of an animation; transparency over white; 16 bits scaled to 8; floats and 32-bit integers
    read against the smallest of 1 (floats only), 255, 65,535 and their own maximum that holds them. With
    `at_least_px`, a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size that leaves its longer
    side at least that long, which is faster. Damage inside a JPEG or WebP that leaves its end in place can
    go unseen: these formats carry no checksum.

    The pixels are taken of `share` before they are decoded.

    Raises `UnreadableImage` for anything that is not a whole image of at most the share's budget as decoded, or
    `MAX_PIXELS` without one.
    """
    kind = _kind(data, path)
    try:
        stream = io.BytesIO(data)
        picture = _open(kind, stream, path)
        if kind == "JPEG" and data.rfind(_JPEG_END, stream.tell()) < 0:
            # A download padded with zeros decodes without complaint, half of it grey.
            raise _truncated(kind, path)
        width, height = picture.size
        scale = _reduce(picture, at_least_px) if kind == "JPEG" and at_least_px is not None else 1.0
        pixels_decoded = _check_size(picture, width, height, path, share)
        if share is not None:
            share.take(pixels_decoded)
        picture.load()
        orientation = _orientation(picture)
        pixels = _upright(picture, kind, orientation)
    except _DECODER_ERRORS as error:
        raise _undecodable(kind, data, error, path) from error
    if scale == 1.0:
        height, width = pixels.shape[:2]
    elif orientation in _LYING:
        width, height = height, width
    return Image(pixels, width, height, scale)


def from_picture(picture: PIL.Image.Image, *, path: str | os.PathLike[str]) -> Image:
    """Return a picture of Pillow's, opened or drawn, as `decode` returns a file's: upright, RGB, at full scale.

    Of an animation, the frame that the picture stands at. Raises `UnreadableImage` as `decode` does.
    """
    try:
        _check_size(picture, *picture.size, path)
        picture.load()
        pixels = _upright(picture, picture.format or "", _orientation(picture))
    except _DECODER_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(f"cannot be decoded ({detail})", path=path) from error
    height, width = pixels.shape[:2]
    return Image(pixels, width, height)


def _kind(data: bytes, path: str | os.PathLike[str]) -> str:
    """Return the key of `_CODECS` that the first bytes of a file announce."""
    if not data:
        raise UnreadableImage("is empty (0 bytes)", path=path)
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:1] == b"P" and data[1:2] in b"123456f" and data[2:3] in b" \t\r\n#":
        return "PNM"
    if data[4:8] == b"ftyp":
        # ISO/IEC 14496-12: the brands fill the first box, four bytes each, a version after the first of them.
        end = min(int.from_bytes(data[:4], "big"), len(data))
        brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIC"
    head = data[:512]
    what = "is text" if head.isascii() and min(head) >= 9 else "is in no known format"
    raise UnreadableImage(f"{what}, not an image", path=path, hint="facecli reads " + ", ".join(_CODECS))


def _open(kind: str, stream: io.BytesIO, path: str | os.PathLike[str]) -> PIL.Image.Image:
    """Return the picture with its header read and no pixel decoded."""
    module, name = _CODECS[kind]
    try:
        codec = getattr(importlib.import_module(module), name)
    except ImportError as error:
        hint = _INSTALL.get(kind, "reinstall pillow")
        raise UnreadableImage(f"is {kind}, whose decoder is not installed", path=path, hint=hint) from error
    if kind == "TIFF":
        _silence_libtiff()
    return codec(stream)


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from printing its own messages on stderr, in C, beside the exceptions of Pillow."""
    import ctypes

    try:
        set_handler = ctypes.CDLL(PIL.Image.core.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        # Linked in statically, as on Windows: out of reach.
        return
    set_handler.argtypes = [ctypes.c_void_p]
    set_handler.restype = ctypes.c_void_p
    set_handler(None)


def _reduce(picture: PIL.Image.Image, at_least_px: int) -> float:
    """Set a JPEG to be decoded at reduced scale; return the scale."""
    width, height = picture.size
    for factor in (8, 4, 2):
        # Ceiling division, as libjpeg rounds.
        if -(-max(width, height) // factor) >= at_least_px:
            # Pillow decides by the side that would shrink most and may settle for less than was asked.
            drafted = picture.draft(None, (max(width // factor, 1), max(height // factor, 1)))
            return 1.0 if drafted is None else drafted[1][2] / width
    return 1.0


def _check_size(
    picture: PIL.Image.Image,
    width: int,
    height: int,
    path: str | os.PathLike[str],
    share: Share | None = None,
) -> int:
    """Return how many pixels the picture has as decoded; raises `UnreadableImage` for too many."""
    most = MAX_PIXELS if share is None else share.budget.pixels
    # A progressive JPEG keeps every coefficient in memory, whatever the scale it is decoded at.
    decoded = width * height if "progressive" in picture.info else picture.size[0] * picture.size[1]
    # A TIFF is decoded by whole tiles, however small the picture.
    tags = getattr(picture, "tag_v2", {})
    tile = [int(tags.get(tag, 1)) for tag in _TILE]
    if tile[0] * tile[1] > most:
        raise UnreadableImage(f"cannot be decoded: its tiles are {tile[0]} x {tile[1]} px", path=path)
    if decoded > most:
        raise UnreadableImage(
            f"is {width} x {height} px, more than the {most / 10**6:g} megapixels that are decoded",
            path=path,
            hint="raise max_pixels, or reduce it first",
            advice="more_pixels",
        )
    return decoded


def _orientation(picture: PIL.Image.Image) -> object:
    """Return what the metadata says of the orientation, 1 where there is none or it is damaged."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1


def _upright(picture: PIL.Image.Image, kind: str, orientation: object) -> NDArray[np.uint8]:
    """Return the pixels of a loaded picture, uint8 [H, W, 3], RGB, turned as `orientation` says."""
    if picture.mode.startswith(("I", "F")):
        picture = PIL.Image.fromarray(_eight_bits(np.asarray(picture), kind))
    width, height = picture.size
    lying = orientation in _LYING
    pixels = np.empty((width, height, 3) if lying else (height, width, 3), np.uint8)
    stored = _AS_STORED[orientation](pixels) if orientation in _AS_STORED else pixels
    # In strips: Pillow's own copies of a whole picture would take several times as much as the picture.
    rows = max(1, _STRIP_PX // width)
    for top in range(0, height, rows):
        strip = picture if rows >= height else picture.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = np.asarray(_rgb(strip))
    pixels.flags.writeable = False
    return pixels


def _rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Return `picture`, of 8 bits a channel, in mode RGB."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = PIL.Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(values: NDArray[np.generic], kind: str) -> NDArray[np.uint8]:
    """Return grey values of any type, [H, W], as uint8 of the same shape; not a number is black."""
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if values.dtype.itemsize == 2 or (kind != "TIFF" and values.dtype.kind == "i"):
        # Pillow keeps the 16 bits of a PNG or PNM in 32.
        top = 65535.0
    else:
        highest = float(grey.max())
        ladder = (255.0, 65535.0) if values.dtype.kind == "i" else (1.0, 255.0, 65535.0)
        top = next((step for step in ladder if highest <= step), highest)
    return np.rint(np.clip(grey, 0.0, top) * np.float32(255.0 / top)).astype(np.uint8)


def _undecodable(
    kind: str, data: bytes, error: BaseException, path: str | os.PathLike[str]
) -> UnreadableImage:
    """Return the error for what a decoder raised."""
    detail = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return UnreadableImage(f"is {kind} and does not fit into memory", path=path, hint="reduce it first")
    if any(word in detail.lower() for word in ("truncated", "not enough", "eof")) or _is_cut(kind, data):
        return _truncated(kind, path)
    return UnreadableImage(f"cannot be decoded as {kind} ({detail})", path=path)


def _truncated(kind: str, path: str | os.PathLike[str]) -> UnreadableImage:
    return UnreadableImage(f"is truncated: this {kind} lacks its end", path=path, hint="copy it again")


def _is_cut(kind: str, data: bytes) -> bool:
    """Say whether a file that failed to decode lacks its end, as far as its format tells."""
    if kind == "WebP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    if kind == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little")
    if kind == "TIFF":
        return len(data) < int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")
    if kind in ("AVIF", "HEIC"):
        at = 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if size < 8:
                # The last box, or one of more than 4 GiB.
                return False
            at += size
        return at != len(data)
    end = {"JPEG": _JPEG_END, "PNG": b"IEND", "GIF": b";", "JPEG 2000": _JPEG_END}.get(kind)
    return end is not None and end not in data[-64:]
