"""The samples of a database, or of a file of templates: its people are the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facecli.errors import FaceError
from facecli.gallery.enrolment import Enroller
from facecli.gallery.refresh import refresh
from facecli.hooks import Notify, Progress
from facecli.photos.find import digest, read
from facecli.templates.records import is_templates
from facecli.trials.samples import Samples, samples_of_templates


def samples_of_people(
    source: Path,
    enroller: Enroller,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[Samples, Path | None]:
    """Return the samples of a database, or of a file of templates, and the folder that the photos lie in.

    Raises what `samples_of_database` and `samples_of_templates` raise.
    """
    if is_templates(source):
        return samples_of_templates(source, embedder_id=enroller.id, dim=enroller.dim), None
    samples = samples_of_database(source, enroller, cache_dir=cache_dir, progress=progress, notify=notify)
    return samples, source


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
    photos = [(sample.subject, sample.path, at) for at, sample in enumerate(samples)]
    photos += [(failure.path.partition("/")[0], failure.path, -1) for failure in report.failures]
    photos.sort()
    rows = np.array([row for _, _, row in photos], dtype=np.int64)
    templates = np.full((len(photos), enroller.dim), np.nan, np.float32)
    templates[rows >= 0] = kept[rows[rows >= 0]]
    strictness = np.zeros(len(photos), np.float32)
    strictness[rows >= 0] = np.array([sample.strictness for sample in samples], np.float32)[rows[rows >= 0]]
    return Samples(
        paths=tuple(path for _, path, _ in photos),
        subjects=tuple(subject for subject, _, _ in photos),
        digests=tuple(_digest_of(gallery.root / path) for _, path, _ in photos),
        templates=templates,
        failures=tuple(sorted(report.failures, key=lambda f: (f.path.partition("/")[0], f.path))),
        strictness=strictness,
    )


def _digest_of(path: Path) -> str:
    try:
        # A name in an import may be that of a pipe, which would be waited for.
        return digest(read(path)) if path.is_file() else ""
    except FaceError:
        return ""
