"""A photo with the faces that were found in it, boxed and named."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from facecli.errors import UsageError
from facecli.photos.decode import decode
from facecli.photos.find import read
from facecli.recognition.identify import Identified

KNOWN, UNKNOWN = (40, 180, 90), (225, 60, 50)
"""Colours of the boxes of people who were found, and of those who were not."""


def draw_faces(photo: Path, faces: Iterable[Identified], target: Path) -> None:
    """Write `photo`, upright, with the boxes and names of its `faces`.

    The ending of `target` sets the format. Raises `UsageError` when it cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(decode(read(photo), path=photo).pixels)
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size) / 300
    font = ImageFont.load_default(max(12, round(5 * unit)))
    for face in faces:
        if face.place.box is None:
            continue
        left, top, right, bottom = face.place.box
        colour = KNOWN if face.match else UNKNOWN
        pen.rectangle((left, top, right, bottom), outline=colour, width=max(2, round(unit)))
        text = "unknown" if face.subject is None else f"{face.subject} {face.similarity:.3f}"
        x, y, end, below = pen.textbbox((0, 0), text, font=font)
        # Above the box, or just inside it where the picture ends.
        at = (max(0, min(left, picture.width - end - 4)), top - below - 4 if top > below + 4 else top + 4)
        pen.rectangle((at[0], at[1], at[0] + end + 4, at[1] + below + 4), fill=colour)
        pen.text((at[0] + 2, at[1] + 2), text, fill=(255, 255, 255), font=font)
    try:
        picture.save(target)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the picture cannot be written ({error})", path=target, hint="use an ending such as .jpg or .png"
        ) from error
