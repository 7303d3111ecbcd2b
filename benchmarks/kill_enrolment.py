"""Kills an enrolment at random moments, again and again, and checks that nothing is lost or wrong.

    python benchmarks/kill_enrolment.py --photos people/ [--kills 50] [--enroller MODULE:FACTORY]

The factory returns an `Enroller`; without it the default embedder is used. Without `--photos` a folder of small distinct files is made up, for an
enroller that does not decode them. After each kill the matrix must open in NumPy, the gallery that is kept
must open, and all but one batch of the results that were finished must be in it. In the end the gallery must equal
one made afresh in one go. Prints one JSON record; exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from facecli.config import default_cache_dir
from facecli.embedder import Embedder
from facecli.enrolment import BATCH_PHOTOS
from facecli.errors import DatabaseError, FaceError
from facecli.gallery import Enrolled, Enroller, Gallery, refresh


class Recorder:
    """An enroller that writes down the digest of each photo whose result it has handed over."""

    def __init__(self, inner: Enroller, log: Path) -> None:
        self.inner = inner
        self.id, self.dim, self.limits = inner.id, inner.dim, inner.limits
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def enrol(self, photos: Iterable[tuple[Path, bytes]]) -> Iterator[Enrolled | FaceError]:
        taken: list[bytes] = []

        def tapped() -> Iterator[tuple[Path, bytes]]:
            for path, data in photos:
                taken.append(hashlib.sha256(data).hexdigest().encode())
                yield path, data

        for at, result in enumerate(self.inner.enrol(tapped())):
            os.write(self.log, taken[at] + b"\n")
            yield result


def default_embedder() -> Enroller:
    return Embedder(cache_dir=default_cache_dir())


def make(enroller: str) -> Enroller:
    module, factory = enroller.split(":")
    return getattr(importlib.import_module(module), factory)()


def child(enroller: str, root: Path, cache: Path, log: Path) -> None:
    recorder = Recorder(make(enroller), log)
    print("ready", flush=True)
    refresh(root, recorder, cache_dir=cache)


def make_up(root: Path, n: int) -> None:
    for at in range(n):
        person = root / f"person {at // 5}"
        person.mkdir(parents=True, exist_ok=True)
        # Some show no face, some show what another shows.
        kind = "noface" if at % 17 == 3 else "face"
        (person / f"{at}.jpg").write_bytes(f"{kind} {at - at % 13 % 2}".encode())


def logged(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def contents(gallery: Gallery) -> dict[str, bytes]:
    return {sample.path: gallery.templates[sample.row].tobytes() for sample in gallery.samples}


def run(args: argparse.Namespace, work: Path) -> dict[str, object]:
    root, fresh, cache, log = work / "people", work / "fresh", work / "cache", work / "log"
    if args.photos is not None:
        shutil.copytree(args.photos, root, ignore=shutil.ignore_patterns(".facecli"))
    else:
        make_up(root, args.n)
    shutil.copytree(root, fresh)
    enroller = make(args.enroller)
    started = time.monotonic()
    reference, report = refresh(fresh, enroller, cache_dir=cache)
    seconds = time.monotonic() - started
    expected = contents(reference)
    command = [
        sys.executable,
        __file__,
        "--enroller",
        args.enroller,
        "--child",
        str(root),
        str(cache),
        str(log),
    ]
    rng = random.Random(args.seed)
    wrong: list[str] = []
    repeats = finished_first = 0
    for kill in range(args.kills):
        before = logged(log)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            next(iter(process.stdout or ()))
            try:
                process.wait(rng.uniform(0, seconds / 2))
                finished_first += 1
            except subprocess.TimeoutExpired:
                process.kill()
        done = logged(log)[len(before) :]
        repeats += len(set(done) & set(before))
        wrong += check(root, enroller, cache, expected, set(before + done), kill)
        if process.returncode == 0:
            shutil.rmtree(root / ".facecli")
            log.unlink()
    gallery, last = refresh(root, enroller, cache_dir=cache)
    if contents(gallery) != expected or last.failures != report.failures or not gallery.complete:
        wrong.append("the gallery differs from one made afresh")
    allowed = args.kills * BATCH_PHOTOS
    if repeats > allowed:
        wrong.append(f"{repeats} photos enrolled twice, {allowed} allowed")
    return {
        "photos": report.n_samples + len(report.failures),
        "kills": args.kills - finished_first,
        "finished_first": finished_first,
        "enrolled_twice": repeats,
        "wrong": wrong,
    }


def check(
    root: Path, enroller: Enroller, cache: Path, expected: dict[str, bytes], finished: set[str], kill: int
) -> list[str]:
    """Return what is wrong with what the killed enrolment left."""
    wrong = []
    for matrix in root.glob(".facecli/*/templates.npy"):
        if np.load(matrix, mmap_mode="r").shape[1] != enroller.dim:
            wrong.append(f"kill {kill}: bad shape")
    try:
        gallery = Gallery.open(root, enroller.id, enroller.dim, cache_dir=cache)
    except DatabaseError:
        # Nothing kept yet is fine as long as nothing was finished.
        return [f"kill {kill}: {len(finished)} lost"] if len(finished) > BATCH_PHOTOS else wrong
    wrong += [f"kill {kill}: {path}" for path, row in contents(gallery).items() if row != expected.get(path)]
    shown = {hashlib.sha256((root / sample.path).read_bytes()).hexdigest() for sample in gallery.samples}
    could = {hashlib.sha256((root / path).read_bytes()).hexdigest() for path in expected}
    lost = (finished & could) - shown
    if len(lost) > BATCH_PHOTOS:
        wrong.append(f"kill {kill}: {len(lost)} finished templates lost")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--enroller", default="kill_enrolment:default_embedder", help="MODULE:FACTORY")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--n", type=int, default=400, help="photos to make up")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.enroller, *args.child)
        return 0
    with tempfile.TemporaryDirectory() as work:
        record = run(args, Path(work))
    print(json.dumps(record))
    return 1 if record["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
