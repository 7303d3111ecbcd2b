"""The samples of a database: its people are the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecli.errors import FaceError
from facecli.gallery.enrolment import Enroller
from facecli.gallery.refresh import refresh
from facecli.hooks import Notify, Progress
from facecli.photos.find import digest, read
from facecli.trials.samples import Samples


def samples_of_database(
    root: Path,
    enroller: Enroller,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Samples:
    """Return every photo of every person of the database in `root`, which is brought up to date first.

    Paths are relative to `root`, in the order of subject and path. Raises what `gallery.refresh` raises.
    """
    gallery, report = refresh(root, enroller, cache_dir=cache_dir, progress=progress, notify=notify)
    with gallery.one_moment():
        samples = gallery.samples
        kept = gallery.take(np.array([sample.row for sample in samples], np.int64))
    found = [(sample.subject, sample.path, at) for at, sample in enumerate(samples)]
    found += [(failure.path.partition("/")[0], failure.path, -1) for failure in report.failures]
    found.sort()
    rows = np.array([row for _, _, row in found], dtype=np.int64)
    templates = np.full((len(found), enroller.dim), np.nan, np.float32)
    templates[rows >= 0] = kept[rows[rows >= 0]]
    return Samples(
        paths=tuple(path for _, path, _ in found),
        subjects=tuple(subject for subject, _, _ in found),
        digests=tuple(_digest_of(gallery.root / path) for _, path, _ in found),
        templates=templates,
        failures=tuple(sorted(report.failures, key=lambda f: (f.path.partition("/")[0], f.path))),
    )


def _digest_of(path: Path) -> str:
    try:
        # A name in an import may be that of a pipe, which would be waited for.
        return digest(read(path)) if path.is_file() else ""
    except FaceError:
        return ""
