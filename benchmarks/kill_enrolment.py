"""Kills an enrolment at random moments, again and again, and checks that nothing is lost or wrong.

    python benchmarks/kill_enrolment.py --photos people/ [--kills 50] [--enroller MODULE:FACTORY]
    PYTHONPATH=.:tests python benchmarks/kill_enrolment.py --enroller standin:StandIn --n 1000000 --kills 10

The factory returns an `Enroller`; without it the default embedder is used. Without `--photos` a folder of small
distinct files is made up, for an enroller that does not decode them. After each kill the matrix must open in
NumPy, every sample that is kept must show its file's contents and have the template of these contents, and every
result whose commit had returned must be there; the next run must not ask for such a one again. In the end
everything must be as if enrolled in one go. Prints one JSON record; exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from facecli.config import default_cache_dir
from facecli.errors import FaceError
from facecli.gallery.enrolment import Enroller
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store.location import places
from facecli.gallery.store.writer import Store
from facecli.photos.find import walk
from facecli.templates.embedder import Embedder
from facecli.templates.template import Enrolled


class Recorder:
    """An enroller that writes down what it was asked for, and what a commit has made durable, by digest."""

    def __init__(self, inner: Enroller, log: Path) -> None:
        self.inner = inner
        self.id, self.dim, self.limits = inner.id, inner.dim, inner.limits
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        commit = Store.commit

        def written_down(store: Store, results: dict[bytes, Enrolled | FaceError], *args, **how) -> None:
            commit(store, results, *args, **how)
            os.write(self.log, b"".join(b"kept %s\n" % digest.hex().encode() for digest in results))

        Store.commit = written_down  # type: ignore[method-assign]

    def enrol(self, photos: Iterable[tuple[Path, bytes]]) -> Iterator[Enrolled | FaceError]:
        def tapped() -> Iterator[tuple[Path, bytes]]:
            for path, data in photos:
                os.write(self.log, b"asked %s\n" % hashlib.sha256(data).hexdigest().encode())
                yield path, data

        return self.inner.enrol(tapped())


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
        person = root / f"person {at // 20 if n > 10_000 else at // 5}"
        person.mkdir(parents=True, exist_ok=True)
        # Some show no face, some show what another shows.
        kind = "noface" if at % 17 == 3 else "face"
        (person / f"{at}.jpg").write_bytes(f"{kind} {at - at % 13 % 2}".encode())


class Truth:
    """What the contents of each file give, found out without a database."""

    def __init__(self, root: Path, enroller: Enroller) -> None:
        self.digest_of: dict[bytes, bytes] = {}
        self.template_of: dict[bytes, bytes] = {}

        def photos() -> Iterator[tuple[Path, bytes]]:
            for entry in walk(root):
                data = Path(entry.path).read_bytes()
                digest = hashlib.sha256(data).digest()
                self.digest_of[os.fsencode(os.path.relpath(entry.path, root))] = digest
                if digest not in self.template_of:
                    self.template_of[digest] = b""
                    asked.append(digest)
                    yield Path(entry.path), data

        asked: list[bytes] = []
        for at, result in enumerate(enroller.enrol(photos())):
            if isinstance(result, Enrolled):
                self.template_of[asked[at]] = result.embedding.tobytes()

    def wrong(self, folder: Path) -> tuple[list[str], set[bytes]]:
        """Return what is wrong with the store in `folder`, and the digests that it keeps."""
        if not (folder / "index.sqlite").exists():
            return [], set()
        wrong = []
        rows = np.load(folder / "templates.npy", mmap_mode="r")
        index = sqlite3.connect(f"{(folder / 'index.sqlite').as_uri()}?mode=rw", uri=True)
        kept = {}
        for digest, row in index.execute("SELECT digest, row FROM contents"):
            kept[digest] = row
            template = b"" if row is None else rows[row].tobytes()
            if self.template_of.get(digest) != template:
                wrong.append(f"wrong template of {digest.hex()}")
        shown = index.execute(
            "SELECT name, path, digest FROM samples"
            " JOIN subjects ON subjects.id = subject JOIN contents ON contents.id = content"
        )
        for subject, path, digest in shown:
            if self.digest_of.get(subject + b"/" + path) != digest:
                wrong.append(f"{subject!r}/{path!r} shows another file")
        index.close()
        return wrong, set(kept)


def logged(log: Path) -> tuple[set[bytes], set[bytes]]:
    """Return the digests asked for and those kept."""
    found: dict[str, set[bytes]] = {"asked": set(), "kept": set()}
    for line in log.read_text().splitlines() if log.exists() else []:
        kind, _, digest = line.partition(" ")
        # The last line may be torn.
        if len(digest) == 64:
            found[kind].add(bytes.fromhex(digest))
    return found["asked"], found["kept"]


def run(args: argparse.Namespace, work: Path) -> dict[str, object]:
    root, cache, log = work / "people", work / "cache", work / "log"
    if args.photos is not None:
        shutil.copytree(args.photos, root, ignore=shutil.ignore_patterns(".facecli"))
    else:
        make_up(root, args.n)
    enroller = make(args.enroller)
    truth = Truth(root, enroller)
    command = [sys.executable, __file__, "--enroller", args.enroller]
    command += ["--child", str(root), str(cache), str(log)]
    folder = places(root, enroller.id, cache).inner
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        next(iter(process.stdout or ()))
        started = time.monotonic()
        process.wait()
    seconds = time.monotonic() - started
    rng = random.Random(args.seed)
    wrong: list[str] = []
    again = finished_first = 0
    kept: set[bytes] = set()
    for kill in range(args.kills):
        if process.returncode == 0:
            shutil.rmtree(root / ".facecli")
            kept = set()
        log.unlink(missing_ok=True)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            next(iter(process.stdout or ()))
            try:
                process.wait(rng.uniform(0, seconds / 2))
                finished_first += 1
            except subprocess.TimeoutExpired:
                process.kill()
        asked, committed = logged(log)
        if asked & kept:
            wrong.append(f"kill {kill}: {len(asked & kept)} enrolled although they were kept")
        found, held = truth.wrong(folder)
        wrong += [f"kill {kill}: {what}" for what in found]
        lost = (kept | committed) - held
        if lost:
            wrong.append(f"kill {kill}: {len(lost)} results lost")
        # What was on its way when the process died is enrolled again.
        again += len(asked - held)
        kept = held
    gallery, last = refresh(root, enroller, cache_dir=cache)
    found, held = truth.wrong(folder)
    wrong += found
    shown = {path: truth.digest_of[path] for path in map(os.fsencode, (s.path for s in gallery.samples))}
    whole = {path: digest for path, digest in truth.digest_of.items() if truth.template_of[digest]}
    if shown != whole or len(last.failures) != len(truth.digest_of) - len(whole) or not gallery.complete:
        wrong.append("the gallery differs from what the photos give")
    if not Gallery.open(root, enroller.id, enroller.dim, cache_dir=cache).complete:
        wrong.append("the gallery that is kept is incomplete")
    return {
        "photos": len(truth.digest_of),
        "seconds": round(seconds, 1),
        "kills": args.kills - finished_first,
        "finished_first": finished_first,
        "enrolled_again": again,
        "wrong": wrong[:20],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--enroller", default="kill_enrolment:default_embedder", help="MODULE:FACTORY")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--n", type=int, default=400, help="photos to make up")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="work in this folder [default: a temporary one]")
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.enroller, *args.child)
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder) as work:
        record = run(args, Path(work))
    print(json.dumps(record))
    return 1 if record["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
