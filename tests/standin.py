"""A stand-in for the embedder: the template is drawn from the digest of the contents, so it costs nothing.

What is tested with it is the machinery that keeps templates, not the templates. Contents that start with
`noface` show no face, with `broken` cannot be decoded, with `small` show a face only if `min_face` is small.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from facecli.errors import FaceError, NoFace, UnreadableImage
from facecli.gallery.gallery import Gallery
from facecli.gallery.store.names import Photo
from facecli.gallery.store.writer import Store
from facecli.templates.template import Enrolled

DIM = 16


def template(data: bytes, dim: int = DIM) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class StandIn:
    def __init__(self, *, min_face: int = 40, read_ahead: int = 5, seconds: float = 0.0, dim: int = DIM):
        self.id = f"standin-{dim}"
        self.dim = dim
        self.min_face = min_face
        self.limits = f"min-face {min_face}"
        self.read_ahead = read_ahead
        self.seconds = seconds
        self.asked: list[bytes] = []

    def enrol(self, photos: Iterable[tuple[Path, bytes]]) -> Iterator[Enrolled | FaceError]:
        ahead = iter(photos)
        while batch := list(islice(ahead, self.read_ahead)):
            for path, data in batch:
                self.asked.append(data)
                if self.seconds:
                    time.sleep(self.seconds)
                yield self.result(path, data)

    def result(self, path: Path, data: bytes) -> Enrolled | FaceError:
        if data.startswith(b"noface"):
            return NoFace("no face was found", path=path)
        if data.startswith(b"small") and self.min_face > 20:
            return NoFace("no face was found", path=path, hint=f"try --min-face below {self.min_face}")
        if data.startswith(b"broken"):
            return UnreadableImage("is truncated", path=path)
        points = ((1.0, 2.0), (3.0, 2.0), (2.0, 3.0), (1.0, 4.0), (3.0, 4.0))
        n_faces = 3 if data.startswith(b"group") else 1
        return Enrolled(template(data, self.dim), (0.0, 0.0, 4.0, 5.0), points, 0.99, 0, n_faces)


def gallery_of(folder, templates, shown):
    """Return a gallery of templates [N, D]; `shown` are (subject, path, row), paths below the subject's folder."""
    results = {
        row.to_bytes(32, "little"): Enrolled(one, (0, 0, 1, 1), ((0, 0),) * 5, 0.9, 0, 1)
        for row, one in enumerate(templates)
    }
    samples = [
        (Photo(subject.encode(), path.encode(), "1 2 3 4", 1), row.to_bytes(32, "little"))
        for subject, path, row in shown
    ]
    folder.mkdir(exist_ok=True)
    with Store.writing(folder, templates.shape[1], None) as store:
        store.commit(results, samples, [], limits="", complete=True)
    return Gallery(folder, "e", folder, templates.shape[1])


def slow() -> StandIn:
    return StandIn(seconds=0.001)


HALF_COMMIT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE samples SET path = path || 'spoilt', stat = hex(zeroblob(3000))")
connection.execute("UPDATE contents SET row = row + 100, message = hex(zeroblob(3000))")
os._exit(9)
"""


def half_commit(folder):
    """Leave what a writer leaves that is killed while SQLite writes its pages."""
    subprocess.run([sys.executable, "-c", HALF_COMMIT, folder / "index.sqlite"], check=False)
    assert (folder / "index.sqlite-journal").stat().st_size > 0
