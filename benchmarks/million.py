"""How a database of a million photos opens, refreshes and takes in one photo more, beside the bare disk.

    python benchmarks/million.py [--quick] [--n 1000000] [--keep FOLDER] [--json FILE]

Makes a tree of tiny files, 20 to a folder, and enrols them with a stand-in for the embedder that draws templates
from their bytes. It bears the name of the default model, so that `facecli find` itself can be run on the result.
Then, interleaved in each round: a bare walk (`os.scandir`, and `stat` of every entry) and a refresh of the unchanged
database. `--keep` keeps the tree, some 5 GB, and uses it again.

Times are wall seconds, with CPU seconds of the process in parentheses; medians and the range of the rounds. Memory
is the peak of what is not mapped from files (RssAnon and RssShmem of /proc), sampled every 5 ms.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from facecli.config import Detection, default_cache_dir
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.templates.embedder import Embedder
from facecli.templates.template import Enrolled

PER_SUBJECT = 20
POINTS = ((0.0, 0.0),) * 5
PROBE = Path(__file__).parents[1] / "sample_db" / "probes" / "clara.jpg"


class StandIn:
    def __init__(self, embedder_id: str, dim: int) -> None:
        self.id, self.dim, self.limits = embedder_id, dim, Detection()
        self.asked = 0

    def enrol(self, photos: Iterable[tuple[Path, bytes]]) -> Iterator[Enrolled]:
        for _, data in photos:
            self.asked += 1
            yield Enrolled(template(data, self.dim), (0.0, 0.0, 1.0, 1.0), POINTS, 0.9, 0, 1)


def template(data: bytes, dim: int) -> np.ndarray:
    drawn = np.frombuffer(hashlib.shake_128(data).digest(2 * dim), np.int16).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def make_tree(root: Path, n: int) -> None:
    for first in range(0, n, PER_SUBJECT):
        person = root / f"person {first // PER_SUBJECT:05}"
        person.mkdir(parents=True, exist_ok=True)
        for at in range(first, min(n, first + PER_SUBJECT)):
            (person / f"{at % PER_SUBJECT:02}.jpg").write_bytes(b"%d" % at)


def bare_walk(root: Path) -> int:
    pending, n = [os.fspath(root)], 0
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    pending.append(entry.path)
                entry.stat()
                n += 1
    return n


def bare_walk_by_number(root: Path) -> int:
    """The same, each folder opened first, which spares the kernel the way from the root for each entry."""
    pending, n = [os.fspath(root)], 0
    while pending:
        here = pending.pop()
        folder = os.open(here, os.O_RDONLY)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    pending.append(f"{here}/{entry.name}")
                entry.stat()
                n += 1
        os.close(folder)
    return n


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Peak:
    """The peak of a process's own memory while the block runs, in MB."""

    def __init__(self, pid: int) -> None:
        self.pid, self.mb, self.before = pid, 0.0, 0.0
        self.ended = threading.Event()

    def __enter__(self) -> Peak:
        self.before = self.mb = self.now()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def watch(self) -> None:
        while not self.ended.wait(0.005):
            self.mb = max(self.mb, self.now())

    def now(self) -> float:
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:
            return 0.0
        return sum(int(x.split()[1]) for x in lines if x.startswith(("RssAnon", "RssShmem"))) / 1e3


def written() -> int:
    """Return the bytes that this process has had written to the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def spread(samples: list[float]) -> str:
    return f"{statistics.median(samples):.3g} ({min(samples):.3g} to {max(samples):.3g})"


def show(what: str, value: str) -> None:
    print(f"{what:<58} {value}", flush=True)


def enrolment(root: Path, enroller: StandIn, cache: Path, found: dict[str, object]) -> None:
    with Peak(os.getpid()) as peak:
        wall, cpu = timed(lambda: refresh(root, enroller, cache_dir=cache))
    found["enrolment"] = {"photos": enroller.asked, "seconds": wall, "cpu": cpu, "mb": peak.mb - peak.before}
    if enroller.asked:
        show("enrolment, photos/s", f"{enroller.asked / wall:,.0f} ({wall:.0f} s, CPU {cpu:.0f} s)")
        show("  memory on top, MB", f"{peak.mb - peak.before:.0f}")


def rounds(root: Path, enroller: StandIn, cache: Path, n_rounds: int, found: dict[str, object]) -> None:
    asked = enroller.asked
    work: dict[str, Callable[[], object]] = {
        "bare": lambda: bare_walk(root),
        "by_number": lambda: bare_walk_by_number(root),
        "refresh": lambda: refresh(root, enroller, cache_dir=cache),
    }
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for at in range(n_rounds):
        for name in list(work)[at % 3 :] + list(work)[: at % 3]:
            samples[name].append(timed(work[name]))
    if enroller.asked != asked:
        raise RuntimeError("the database was not up to date")
    found["rounds"] = samples
    for name, title in (
        ("bare", "bare scandir + stat, s"),
        ("by_number", "the same by folder number, s"),
        ("refresh", "refresh of the unchanged database, s"),
    ):
        walls, cpus = zip(*samples[name], strict=True)
        show(title, f"{spread(list(walls))}, CPU {spread(list(cpus))}")
    for name, title in (("bare", "  times the bare walk"), ("by_number", "  times the one by folder number")):
        for at, kind in enumerate(("wall", "CPU")):
            pairs = zip(samples["refresh"], samples[name], strict=True)
            show(f"{title}, {kind}", spread([ours[at] / theirs[at] for ours, theirs in pairs]))


def opening(root: Path, enroller: StandIn, cache: Path, n_rounds: int, found: dict[str, object]) -> None:
    rng = np.random.default_rng(0)
    probe = rng.standard_normal((1, enroller.dim)).astype(np.float32)
    probe /= np.linalg.norm(probe)
    opened, first, second = [], [], []
    for _ in range(n_rounds):
        with Peak(os.getpid()) as peak:
            started = time.perf_counter()
            gallery = Gallery.open(root, enroller.id, enroller.dim, cache_dir=cache)
            opened.append(time.perf_counter() - started)
            time.sleep(0.02)
        for times in (first, second):
            started = time.perf_counter()
            gallery.search(probe, 5)
            times.append(time.perf_counter() - started)
    found["open"] = {"open": opened, "first": first, "second": second, "mb": peak.mb - peak.before}
    show("open, ms", spread([1e3 * x for x in opened]))
    show("  memory on top, MB", f"{peak.mb - peak.before:.0f}")
    show("first search after opening, ms", spread([1e3 * x for x in first]))
    show("second search, ms", spread([1e3 * x for x in second]))


def adding(root: Path, enroller: StandIn, cache: Path, n_rounds: int, found: dict[str, object]) -> None:
    """Add one photo at a time; the refresh right after it, of the unchanged database, is what it is held against."""
    added = []
    for _ in range(n_rounds):
        photo = root / "person 00007" / f"new {time.time_ns()}.jpg"
        photo.write_bytes(b"new %d" % time.time_ns())
        # Young photos are looked at twice.
        os.utime(photo, (0, 0))
        time.sleep(2.5)
        asked, before = enroller.asked, written()
        wall, cpu = timed(lambda: refresh(root, enroller, cache_dir=cache))
        n_bytes = written() - before
        if enroller.asked != asked + 1:
            raise RuntimeError(f"{enroller.asked - asked} photos were embedded for one that was added")
        added.append((wall, cpu, n_bytes, *timed(lambda: refresh(root, enroller, cache_dir=cache))))
    found["added"] = added
    show("adding one photo, s beyond a refresh (CPU)", spread([a[1] - a[4] for a in added]))
    show("adding one photo, s beyond a refresh (wall)", spread([a[0] - a[3] for a in added]))
    show("  KB written to the disk", spread([a[2] / 1e3 for a in added]))


def find(root: Path, home: Path, n_rounds: int, found: dict[str, object]) -> None:
    environment = {**os.environ, "FACECLI_HOME": str(home)}
    base = [sys.executable, "-m", "facecli", "find", str(PROBE), "--threshold", "0.9"]
    for title, more in (("find", []), ("find --no-refresh", ["--no-refresh"])):
        walls, peaks = [], []
        for _ in range(n_rounds):
            started = time.perf_counter()
            command = [*base, "--db", str(root), *more]
            with (
                subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process,
                Peak(process.pid) as peak,
            ):
                process.wait()
            if process.returncode not in (0, 1):
                raise RuntimeError(f"find ended with {process.returncode}")
            walls.append(time.perf_counter() - started)
            peaks.append(peak.mb)
        found[title] = {"seconds": walls, "mb": peaks}
        show(f"{title}, cold process, s", spread(walls))
        show("  memory beside what is mapped from files, MB", spread(peaks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument(
        "--dim", type=int, help="templates of this length under a name of their own, without find"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="100,000 photos, 3 rounds")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="make the tree here, or use the one that is here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to this file")
    args = parser.parse_args()
    if args.quick:
        args.n, args.rounds = 100_000, 3
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep if args.keep is not None else Path(scratch, "people")
        cache = default_cache_dir()
        if args.dim is None:
            embedder = Embedder(cache_dir=cache)
            enroller = StandIn(embedder.id, embedder.dim)
        else:
            enroller = StandIn(f"standin-{args.dim}", args.dim)
        if not (root / f"person {(args.n - 1) // PER_SUBJECT:05}").exists():
            make_tree(root, args.n)
            # Young files are looked at twice.
            time.sleep(3)
        found: dict[str, object] = {"n": args.n, "dim": enroller.dim}
        show("photos, folders, numbers a template", f"{args.n:,}, {args.n // PER_SUBJECT:,}, {enroller.dim}")
        enrolment(root, enroller, cache, found)
        rounds(root, enroller, cache, args.rounds, found)
        opening(root, enroller, cache, args.rounds, found)
        adding(root, enroller, cache, args.rounds, found)
        if args.dim is None:
            find(root, Path(scratch, "home"), args.rounds, found)
    if args.json is not None:
        args.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
