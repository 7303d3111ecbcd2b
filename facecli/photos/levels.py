"""Levels: a photo too dark or flat for a detector to see its faces is spread over all of black to white."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from facecli.photos.decode import Image
from facecli.photos.source import Decode

FLAT = 100.0
"""Grey levels of 255 from the 1st to the 99th percentile of a photo's luminance, below which it is spread. Good photos
have 155 or more."""
_NARROWEST = 8.0
"""Levels that are spread at least, or a blank photo's noise would become a picture."""
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Of RGB (ITU-R BT.601)."""
_SAMPLES_PX = 50
"""Side of a square of as many pixels as are looked at, at least."""


def levelled(decode: Decode) -> Decode:
    """Return what decodes the same photo, spread where it is flat."""
    return lambda at_least_px: spread(decode(at_least_px))


def spread(image: Image) -> Image:
    """Return `image` itself, or one whose luminance's 1st percentile is black and whose 99th is white."""
    height, width = image.pixels.shape[:2]
    step = max(1, int(math.sqrt(height * width) / _SAMPLES_PX))
    luminance = np.sort(image.pixels[::step, ::step] @ _LUMINANCE, axis=None)
    black, white = (float(luminance[at]) for at in (luminance.size // 100, -1 - luminance.size // 100))
    if white - black >= FLAT:
        return image
    white = max(white, black + _NARROWEST)
    table = np.clip((np.arange(256) - black) * 255 / (white - black), 0, 255)
    return replace(image, pixels=np.rint(table).astype(np.uint8)[image.pixels], levels=(black, white))
