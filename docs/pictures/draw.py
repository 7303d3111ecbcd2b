"""Draw the README's picture: a group photo made of the sample people, with the names that `find --draw` puts in.

Run it from anywhere: `python docs/pictures/draw.py`. It writes find.jpg beside itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
SAMPLES = HERE.parents[1] / "sample_db"
GREY = (46, 52, 60)
# Photo, left, top and side in px: people of the database, and the two strangers among them.
PLACES = (
    ("probes/clara.jpg", 20, 20, 224),
    ("people/Arthur/1.jpg", 264, 20, 224),
    ("probes/stranger-1.jpg", 508, 20, 224),
    ("probes/hugo.jpg", 752, 20, 224),
    ("people/Imani/1.jpg", 142, 264, 200),
    ("probes/stranger-2.jpg", 386, 264, 200),
    ("people/Basil/1.jpg", 630, 264, 200),
)


def group() -> Image.Image:
    """Return the sample photos side by side on one canvas."""
    canvas = Image.new("RGB", (996, 484), GREY)
    for name, left, top, side in PLACES:
        photo = Image.open(SAMPLES / name).resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(photo, (left, top))
    return canvas


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        group().save(place / "group.png")
        people = place / "people"
        shutil.copytree(SAMPLES / "people", people, ignore=shutil.ignore_patterns(".facecli"))
        for name, *_ in PLACES:  # nobody is found by the very photo that is searched for
            if name.startswith("people"):
                (place / name).unlink()
        facecli = [sys.executable, "-m", "facecli"]
        drawn = HERE / "find.jpg"
        subprocess.run(
            [*facecli, "find", place / "group.png", "--db", people, "--top", "1", "--draw", drawn], check=True
        )


if __name__ == "__main__":
    main()
