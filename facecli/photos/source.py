"""Photographs as callers have them: a path, a file's bytes, a picture of Pillow's, an array of pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from facecli.arrays import Pixels
from facecli.errors import BadInput
from facecli.photos.budget import Share
from facecli.photos.decode import Image, decode, from_picture
from facecli.photos.find import read

Photo = str | os.PathLike[str] | bytes | PIL.Image.Image | Pixels
"""A path, the bytes of an image file, a picture of Pillow's, or pixels as uint8 [H, W, 3] in RGB, upright."""

NamedPhoto = tuple[Path, bytes | Image | None]
"""A name for messages, and the file's bytes or its pixels; None: read the file that has this name."""

Decode = Callable[[int | None], Image]
"""Decodes a photo so that its longer side keeps at least so many px; None: at full scale."""


def named(photo: Photo, name: str | os.PathLike[str] | None = None) -> NamedPhoto:
    """Return a photo in any form with a name: a path's own, else `name`, else "photo".

    A path is not read here. A picture of Pillow's is made upright RGB, as a file would be; an array is copied, so
    that its owner may fill it anew.

    Raises `BadInput` for an array of another type or shape and for what is no photo, `UnreadableImage` for a
    picture that cannot be decoded.
    """
    if isinstance(photo, str | os.PathLike):
        return Path(photo), None
    path = Path(name if name is not None else "photo")
    if isinstance(photo, bytes):
        return path, photo
    if isinstance(photo, PIL.Image.Image):
        return path, from_picture(photo, path=path)
    if isinstance(photo, np.ndarray):
        return path, from_array(photo, path=path)
    raise BadInput(
        f"is of the type {type(photo).__name__}, not a photo",
        path=path,
        hint="give a path, bytes, a Pillow image or an array",
    )


def from_array(pixels: Pixels, *, path: str | os.PathLike[str]) -> Image:
    """Return a copy of `pixels`, uint8 [H, W, 3] in RGB, as an image; `path` only names it in errors.

    Raises `BadInput` for another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        shape = " x ".join(map(str, pixels.shape))
        raise BadInput(
            f"is an array of {shape} {pixels.dtype} values",
            path=path,
            hint="give H x W x 3 of uint8, RGB",
        )
    own = np.array(pixels, order="C")
    own.flags.writeable = False
    height, width = own.shape[:2]
    return Image(own, width, height)


def decoder(photo: NamedPhoto, share: Share | None = None) -> Decode:
    """Return what decodes a photo, with pixels of `share`; its file is read now, and pixels are handed out as they are.

    Raises what `read` raises; what is returned raises what `decode` does.
    """
    path, content = photo
    if isinstance(content, Image):
        image = content
        return lambda at_least_px: image
    data = content if content is not None else read(path)
    return lambda at_least_px: decode(data, path=path, at_least_px=at_least_px, share=share)
