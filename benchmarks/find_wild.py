"""Closed-set identification on photos in the wild: each photo as probe against all others.

    python benchmarks/find_wild.py FOLDER_PER_IDENTITY

Enrols the folder (the main face of each photo), then searches with each photo's template, its own row left out. Rank-1
and rank-5 count every photo: one without a face, or whose person has no other usable photo, is a miss.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from facecli.config import default_cache_dir
from facecli.gallery.refresh import refresh
from facecli.stats.intervals import clopper_pearson
from facecli.templates.embedder import Embedder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        people = Path(shutil.copytree(arguments.folder, Path(place) / "people"))
        embedder = Embedder(cache_dir=default_cache_dir())
        start = time.perf_counter()
        gallery, report = refresh(people, embedder, cache_dir=Path(place) / "cache")
        seconds = time.perf_counter() - start
        rows = np.array([sample.row for sample in gallery.samples])
        found = gallery.search(np.asarray(gallery.templates)[rows], 5, exclude_rows=rows)
    n_photos = report.n_samples + len(report.failures)
    print(
        f"{n_photos} photos of {report.n_subjects} people enrolled in {seconds:.1f} s, {report.several} with several faces"
    )
    for failure in report.failures:
        print(f"  failed: {failure.path}: {failure.message}")
    for rank in (1, 5):
        hits = sum(
            any(c.subject == sample.subject for c in candidates[:rank])
            for sample, candidates in zip(gallery.samples, found, strict=True)
        )
        low, high = clopper_pearson(hits, n_photos)
        print(
            f"rank-{rank}: {hits} of {n_photos}, {hits / n_photos:.2%} (95 % {low:.2%} to {high:.2%}); {len(report.failures)} failures counted as misses"
        )
    for sample, candidates in zip(gallery.samples, found, strict=True):
        if candidates[0].subject != sample.subject:
            print(
                f"  wrong at rank 1: {sample.path} taken for {candidates[0].path} ({candidates[0].similarity:.3f})"
            )


if __name__ == "__main__":
    main()
