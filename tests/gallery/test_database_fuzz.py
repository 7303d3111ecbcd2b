"""A database that lives through anything equals one made afresh: samples, failures, counts and searches.

What happens to it is drawn: changes to the photos (odd names, links, folders in the place of files), enrolments
and compactions that die half-way, damage to each of its files. More than the quick run:
`python tests/test_database_fuzz.py FIRST_SEED SEEDS`.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from standin import DIM, StandIn, template

from facecli.errors import DatabaseError, printable
from facecli.files import npy
from facecli.gallery import enrolment
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.searchable import Candidate
from facecli.gallery.store import derived, int8_copy, row_owners, vacuum, writer
from facecli.gallery.store.files import MATRIX
from facecli.gallery.store.writer import Store

KINDS = (b"face", b"face", b"face", b"face", b"group", b"noface", b"small", b"broken")
SUBJECTS = (b"Ada", b"Bob", b"C \n d", b"\xff\xfe", "Zo\u00e9".encode(), "Zoe\u0301".encode(), b"a%20b?#")
FOLDERS = (b"", b"", b"", b"deep/", b"deep/er \xfe/", b"x.jpg/")
NAMES = (
    b"1.jpg",
    b"2.JPG",
    b"\xff.jpg",
    "\u00e9.jpg".encode(),
    "e\u0301.jpg".encode(),
    b"n\nl.jpg",
    b"s p.webp",
)
STEPS = (
    *((writer, name) for name in ("append_rows", "extend", "forget_from", "write_empty")),
    *((vacuum, name) for name in ("write_rows", "_renumber", "_erase")),
    *(
        (derived, "seal"),
        (derived, "recount"),
        (row_owners, "put"),
        (writer, "_put_content"),
        (StandIn, "result"),
    ),
    *((os, "replace"), (os, "fsync"), (enrolment, "look"), (npy, "header")),
)
"""Where an enrolment or a compaction may die."""


class Killed(BaseException):
    pass


class Life:
    def __init__(self, seed: int, base: Path) -> None:
        self.draw = random.Random(seed)
        self.root, self.cache = base / "people", base / "cache"
        self.root.mkdir()
        self.clock, self.n_made, self.min_face = 10**18, 0, 40
        self.gone: list[tuple[bytes, bytes]] = []
        self.opened: list[Gallery] = []
        self.n_covered = 0

    @property
    def folder(self) -> Path:
        return self.root / ".facecli" / f"standin-{DIM}"

    def path(self, name: bytes) -> bytes:
        return os.fsencode(self.root) + b"/" + name

    def files(self) -> list[bytes]:
        top = os.fsencode(self.root)
        found = [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names]
        return sorted(path[len(top) + 1 :] for path in found if b"/.facecli" not in path)

    def some(self, n: int = 1) -> list[bytes]:
        files = self.files()
        return self.draw.sample(files, min(n, len(files)))

    def name(self) -> bytes:
        leaf = self.draw.choice((*NAMES, *(b"%d.jpg" % self.draw.randrange(60) for _ in NAMES)))
        return self.draw.choice(SUBJECTS) + b"/" + self.draw.choice(FOLDERS) + leaf

    def room(self, name: bytes) -> bytes:
        """Clear the way for a file of this name."""
        path = parent = self.path(name)
        while len(parent := os.path.dirname(parent)) > len(os.fsencode(self.root)):
            if os.path.islink(parent) or os.path.isfile(parent):
                os.unlink(parent)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def put(self, name: bytes, data: bytes) -> None:
        Path(os.fsdecode(self.room(name))).write_bytes(data)
        # Files change faster here than the clock of the file system ticks.
        self.clock += 10**9
        os.utime(self.path(name), ns=(self.clock, self.clock))

    # What happens to the photos

    def add(self) -> None:
        for _ in range(self.draw.choice((1, 3, 20, 60))):
            self.n_made += 1
            at = self.draw.choice((self.n_made + 1000, self.n_made + 1000, self.draw.randrange(40)))
            data = self.draw.choice(KINDS) + b" %05d" % at if self.draw.random() < 0.95 else b""
            self.put(self.name(), data)

    def delete(self) -> None:
        for name in self.some(3):
            with contextlib.suppress(OSError):
                self.gone.append((name, Path(os.fsdecode(self.path(name))).read_bytes()))
            os.unlink(self.path(name))

    def bring_back(self) -> None:
        if self.gone:
            self.put(*self.draw.choice(self.gone))

    def rename(self) -> None:
        for name in self.some():
            data = self.path(name) + b".moved"
            os.rename(self.path(name), data)
            os.rename(data, self.room(self.name()))

    def copy_or_link(self) -> None:
        for name in self.some():
            source, target = self.path(name), self.name()
            if source == self.path(target) or not os.path.isfile(source):
                continue
            make = self.draw.choice((shutil.copyfile, os.link, os.symlink))
            aside = self.path(b".aside")
            make(source, aside)
            os.rename(aside, self.room(target))

    def link_to_nothing_or_round(self) -> None:
        os.symlink(self.draw.choice((b"nowhere.jpg", b".", b"..")), self.room(self.name()))

    def file_becomes_folder(self) -> None:
        for name in self.some():
            os.mkdir(self.room(name))
            self.put(name + b"/in.jpg", b"face in")

    def rename_subject(self) -> None:
        old, new = (self.path(name) for name in self.draw.sample(SUBJECTS, 2))
        if os.path.isdir(old) and not os.path.lexists(new):
            os.rename(old, new)

    def forget_subject(self) -> None:
        path = Path(os.fsdecode(self.path(self.draw.choice(SUBJECTS))))
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)

    def other_limits(self) -> None:
        # A face that was found stays, so only limits that find more give what one made afresh holds.
        self.min_face -= 5

    # What happens to the database

    def die(self) -> None:
        """Die in an enrolment or a compaction, before a step or after it."""
        place, name = self.draw.choice(STEPS)
        step, left, before = getattr(place, name), [self.draw.randrange(6)], self.draw.random() < 0.5

        def dying(*given, **named):
            left[0] -= 1
            if left[0] < 0 and before:
                raise Killed
            result = step(*given, **named)
            if left[0] < 0:
                raise Killed
            return result

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed, DatabaseError):
            patch.setattr(place, name, dying)
            if self.draw.random() < 0.5:
                patch.setattr(enrolment._Run, "finish", lambda run, complete: None)
            if self.draw.random() < 0.5 and self.folder.exists():
                self.drop_rows()
            else:
                refresh(self.root, StandIn(min_face=self.min_face), cache_dir=self.cache)

    def drop_rows(self) -> None:
        if (self.folder / "index.sqlite").exists():
            vacuum.compact(self.folder, DIM, forget=self.draw.choice((None, *SUBJECTS)))

    def damage(self) -> None:
        self.opened.clear()
        path = self.folder / self.draw.choice((MATRIX, "index.sqlite", "compact.npy", "compact.npy"))
        if not path.exists():
            return
        data = path.read_bytes()
        # A new file: what is cut under a process that has mapped it ends that process.
        path.unlink()
        whole = data[: self.draw.randrange(len(data) + 1)] if path.name != "index.sqlite" else data[:5000]
        if self.draw.random() < 0.7:
            path.write_bytes(self.draw.choice((whole, b"", b"something else " * 500)))

    def keep_open(self) -> None:
        if (self.folder / "index.sqlite").exists():
            with contextlib.suppress(DatabaseError):
                self.opened.append(Gallery.open(self.root, f"standin-{DIM}", DIM, cache_dir=self.cache))

    # What must hold

    def check(self) -> None:
        if not self.files():
            self.put(b"Ada/1.jpg", b"face 1")
        enroller = StandIn(min_face=self.min_face, read_ahead=self.draw.choice((1, 3, 50)))
        try:
            found, report = refresh(self.root, enroller, cache_dir=self.cache)
        except DatabaseError:
            # No photos but hidden or loose ones.
            self.put(b"Ada/1.jpg", b"face 1")
            found, report = refresh(self.root, enroller, cache_dir=self.cache)
        kept, aside = self.root / ".facecli", self.root.with_name("aside")
        kept.rename(aside)
        fresh, afresh = refresh(self.root, StandIn(min_face=self.min_face), cache_dir=self.cache)
        shutil.rmtree(kept)
        aside.rename(kept)
        assert held(found) == held(fresh)
        for field in ("n_samples", "n_subjects", "several", "failures", "without_template", "ignored"):
            assert getattr(report, field) == getattr(afresh, field), field
        assert report.embedded + report.reused == report.n_samples
        assert (found.subjects, found.n_several, found.complete) == (fresh.subjects, fresh.n_several, True)
        again = StandIn(min_face=self.min_face)
        _, unchanged = refresh(self.root, again, cache_dir=self.cache)
        assert (again.asked, unchanged.removed, unchanged.failures) == ([], 0, report.failures)
        self.check_search(found)
        with Store.reading(self.folder, DIM) as kept_now:
            snapshot = kept_now.snapshot()
        covered = snapshot.compact.below(len(snapshot.templates))
        assert covered.agrees(snapshot.templates)
        self.n_covered += covered.n_rows

    def check_search(self, found: Gallery) -> None:
        own = [sample.row for sample in found.samples][:: max(1, found.n_samples // 3)]
        probes = np.concatenate([found.templates[own], template(b"%d" % self.n_made)[None]])
        exclude = np.array([*(self.draw.choice((row, -1)) for row in own), -1])
        top = self.draw.choice((1, 3, 100))
        expected = [scan(found, probe, top, int(row)) for probe, row in zip(probes, exclude, strict=True)]
        assert found.search(probes, top, exclude_rows=exclude) == expected
        for gallery in self.opened:
            assert gallery.search(probes, top) == found.search(probes, top)
            assert gallery.samples == found.samples

    def live(self, n: int) -> None:
        photos = (self.delete, self.bring_back, self.rename, self.copy_or_link, self.rename_subject)
        rarely = (self.link_to_nothing_or_round, self.file_becomes_folder, self.forget_subject)
        database = (self.die, self.die, self.drop_rows, self.damage, self.keep_open, self.other_limits)
        for _ in range(n):
            for _ in range(self.draw.randrange(1, 5)):
                self.draw.choice((*([self.add] * 6), *photos, *photos, *rarely, *database))()
            self.check()


def held(gallery: Gallery) -> dict[str, bytes]:
    return {sample.path: gallery.templates[sample.row].tobytes() for sample in gallery.samples}


def scan(gallery: Gallery, probe: np.ndarray, top: int, excluded: int) -> list[Candidate]:
    """The definition of a search: every sample in double precision, ties by subject, then path, by their bytes."""
    best: dict[bytes, tuple[float, bytes]] = {}
    for sample in gallery.samples:
        if sample.row != excluded:
            path = os.fsencode(sample.path)
            one = -float((gallery.templates[sample.row] * probe.astype(np.float64)).sum()), path
            subject = path.partition(b"/")[0]
            best[subject] = min(one, best.get(subject, one))
    order = sorted((similarity, subject, path) for subject, (similarity, path) in best.items())
    return [
        Candidate(rank, printable(os.fsdecode(subject)), printable(os.fsdecode(path)), -similarity)
        for rank, (similarity, subject, path) in enumerate(order[:top], 1)
    ]


def lives(seeds: range, n: int) -> int:
    """Run a life for each seed; return how many rows were searched by their compact copies."""
    n_covered = 0
    # In memory where that is possible: it syncs thousands of times.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for seed in seeds:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=memory) as base:
            patch.setattr(int8_copy, "WORTH_BYTES", 0)
            patch.setattr(int8_copy, "CHUNK_BYTES", 64 * DIM)
            patch.setattr(row_owners, "CHUNK", 16)
            patch.setattr(enrolment, "BATCH_PHOTOS", 7)
            patch.setattr(enrolment, "BATCH_SAMPLES", 11)
            # Every other time no file is old enough for its times to be trusted.
            patch.setattr(enrolment, "COARSEST_CLOCK_NS", 2 * 10**9 if seed % 2 else -(10**12))
            life = Life(seed, Path(base))
            try:
                life.live(n)
            except BaseException:
                print(f"seed {seed}", file=sys.stderr)
                raise
            n_covered += life.n_covered
    return n_covered


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names here are bytes")
def test_a_database_that_lives_through_anything_equals_one_made_afresh():
    assert lives(range(8), 12) > 0


if __name__ == "__main__":
    first, count = map(int, sys.argv[1:])
    print(f"{lives(range(first, first + count), 30)} rows in compact copies")
