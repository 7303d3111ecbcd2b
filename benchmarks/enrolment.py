"""Enrolling folders of photos: facecli against facenet-pytorch and face_recognition, stage by stage, and at length.

    python benchmarks/enrolment.py --lfw DIR --wild DIR [--quick] [--peers FOLDER] [--json FILE]

DIR holds a folder of photos a person. Three sets: LFW as it is (250 px), wild as it is, and wild enlarged to 2,500 px.
Each contestant is a process of its own, started and warmed up before, with one thread and with all; in every round
all of them enrol the same fresh photos, in turn from another start. A round's ratio is the better of a peer's two to
facecli; shown are medians, with the least and the most. Photos with a face, and TAR at FMR 1e-3 over all
comparisons of the photos seen (Euclidean distance, a photo without a face matches nobody), stand beside.

The stages are those of one thread, in CPU seconds. Floors: the multiplications of the networks at the rate of this
machine's matrix product; Pillow decoding the same bytes at the same scale; reading the file.

--memory N (default 10,000) enrols so many LFW photos, each made different by bytes after its end, and watches the
memory of the process. --peers names the folder of the environments that `run.py` makes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import peers
from enrolment_stages import stages
from PIL import Image

from facecli.config import default_cache_dir

WORKER = Path(__file__).with_name("enrolment_worker.py")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FMR = 1e-3
LARGE_PX = 2500
# Photos a round, rounds, and how many times as fast as the better peer it shall be.
SETS = {"LFW 250 px": (48, 7, 2.5), "wild": (40, 7, 4.0), "wild at 2,500 px": (10, 5, 8.0)}
QUICK = {"LFW 250 px": (16, 3), "wild": (12, 3), "wild at 2,500 px": (4, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lfw", type=Path)
    parser.add_argument("--wild", type=Path)
    parser.add_argument("--quick", action="store_true", help="few photos and rounds: to see that it runs")
    parser.add_argument("--sets", nargs="+", help="only the sets whose names hold one of these")
    parser.add_argument("--memory", type=int, help="photos of the long run (10,000; --quick 500; 0: none)")
    parser.add_argument("--peers", type=Path, default=default_cache_dir() / "benchmarks")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"cores": CORES, "sets": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (count, rounds, target) in SETS.items():
            source = arguments.lfw if name.startswith("LFW") else arguments.wild
            if arguments.sets and not any(part in name for part in arguments.sets):
                continue
            if source is None:
                print(f"{name}: left out, no folder was given")
                continue
            count, rounds = QUICK[name] if arguments.quick else (count, rounds)
            folders = fresh_folders(source, Path(scratch) / name, count, rounds + 1, name)
            found = contest(folders, arguments.peers) | {"target": target}
            found["stages"] = stages([path for f in folders[1:] for path in sorted(f.glob("*/*.jpg"))])
            result["sets"][name] = found
            report(name, found)
            shutil.rmtree(Path(scratch) / name)
        length = arguments.memory if arguments.memory is not None else 500 if arguments.quick else 10_000
        if length and arguments.lfw is not None:
            result["long"] = long_run(arguments.lfw, Path(scratch), length)
            report_long(result["long"])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result) + "\n")


def fresh_folders(source: Path, scratch: Path, count: int, rounds: int, name: str) -> list[Path]:
    """Return `rounds` databases of `count` photos each, whole people where they fit, none of them twice."""
    people = [sorted(folder.glob("*.jpg")) for folder in sorted(source.iterdir()) if folder.is_dir()]
    # Those with several photos first: only they show whether two photos of one person are recognised.
    order = np.random.default_rng(0).permutation(len(people))
    chosen = sorted((people[i] for i in order), key=lambda photos: not 2 <= len(photos) <= 8)
    photos = [photo for own in chosen for photo in own]
    count = min(count, len(photos) // rounds)
    if count == 0:
        raise SystemExit(f"{source}: {len(photos)} photos in folders of people are too few")
    folders = []
    for k in range(rounds):
        folder = scratch / str(k)
        for photo in photos[k * count : (k + 1) * count]:
            target = folder / photo.parent.name / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("2,500 px"):
                enlarge(photo, target)
            else:
                shutil.copyfile(photo, target)
        folders.append(folder)
    return folders


def enlarge(source: Path, target: Path) -> None:
    picture = Image.open(source).convert("RGB")
    scale = LARGE_PX / max(picture.size)
    size = [round(side * scale) for side in picture.size]
    picture.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)


class Contestant:
    """A worker that has been started; `enrol` returns its answer for a folder."""

    def __init__(self, name: str, threads: int, python: str | Path, cache: Path) -> None:
        self.name, self.threads = name, threads
        counts = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        root = str(WORKER.parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **counts}
        if name != "face_recognition":
            environment["PYTHONPATH"] = path
        self.process = subprocess.Popen(
            [python, WORKER, name, str(threads), cache],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def enrol(self, folder: Path) -> dict[str, Any]:
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended early")
        return json.loads(answer)

    def close(self) -> None:
        self.process.communicate()


def contest(folders: list[Path], environments: Path) -> dict[str, Any]:
    """Have everybody enrol all folders, the first one uncounted; return all samples."""
    pythons: dict[str, Path | str | None] = {
        "facecli": sys.executable,
        "facenet-pytorch": sys.executable,
        "face_recognition": peers.python_of("face_recognition", environments),
    }
    threads = sorted({1, CORES})
    running = [
        Contestant(name, n, python, default_cache_dir())
        for name, python in pythons.items()
        for n in threads
        if python is not None
    ]
    warm: dict[Contestant, float] = {}
    samples: dict[str, list[dict[str, Any]]] = {f"{c.name} x{c.threads}": [] for c in running}
    try:
        for k, folder in enumerate(folders):
            shift = k % len(running)
            for contestant in running[shift:] + running[:shift]:
                answer = contestant.enrol(folder)
                warm[contestant] = answer["wall"]
                if k > 0:
                    samples[f"{contestant.name} x{contestant.threads}"].append(answer)
            if k == 0:
                slow = hopeless(warm)
                for contestant in slow:
                    contestant.close()
                    running.remove(contestant)
                    del samples[f"{contestant.name} x{contestant.threads}"]
                    print(f"{contestant.name} x{contestant.threads} left out: far slower than its other form")
    finally:
        for contestant in running:
            contestant.close()
    owners = [path.parent.name for folder in folders[1:] for path in sorted(folder.glob("*/*.jpg"))]
    quality = {}
    for name, rows in samples.items():
        templates = [template for row in rows for template in row.pop("templates")]
        quality[name] = {"found": sum(t is not None for t in templates), "tar": tar(templates, owners)}
    return {
        "photos_a_round": len(owners) // (len(folders) - 1),
        "own": f"facecli x{CORES}",
        "samples": samples,
        "quality": quality,
        "times_as_fast": times_as_fast(samples),
    }


def times_as_fast(samples: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return for each peer, round by round, its better time over that of facecli on all cores."""
    ours = [row["wall"] for row in samples[f"facecli x{CORES}"]]
    ratios = {}
    for peer in dict.fromkeys(key.split(" x")[0] for key in samples if not key.startswith("facecli")):
        theirs = [rows for key, rows in samples.items() if key.split(" x")[0] == peer]
        best = [min(row["wall"] for row in together) for together in zip(*theirs, strict=True)]
        ratios[peer] = [their / our for their, our in zip(best, ours, strict=True)]
    return ratios


def hopeless(warm: dict[Contestant, float]) -> list[Contestant]:
    """Return the forms of peers that took three times as long as another form of the same peer.

    Two threads of torch on busy cores take ten times as long as one, and only the better form counts.
    """
    return [
        slow
        for slow, seconds in warm.items()
        if slow.name != "facecli"
        and any(other.name == slow.name and 3 * least < seconds for other, least in warm.items())
    ]


def tar(templates: list[list[float] | None], owners: list[str]) -> float:
    """Return the share of mated comparisons nearer than all but `FMR` of the non-mated ones."""
    dim = next(len(t) for t in templates if t is not None)
    rows = np.array([t if t is not None else [np.nan] * dim for t in templates])
    squares = np.sum(rows**2, axis=1)
    # Rounding can make the square of nearly equal rows negative.
    apart = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)[np.triu_indices(len(rows), 1)]
    apart = np.where(np.isnan(apart), np.inf, apart)
    names = np.array(owners)
    mated = (names[:, None] == names)[np.triu_indices(len(rows), 1)]
    threshold = np.sort(apart[~mated])[int(FMR * (~mated).sum())]
    return float((apart[mated] < threshold).mean())


def report(name: str, found: dict[str, Any]) -> None:
    count, samples = found["photos_a_round"], found["samples"]
    n = count * len(next(iter(samples.values())))
    print(f"\n{name}: {n} photos in rounds of {count}; x{CORES}: {CORES} threads")
    print(
        f"{'':<22} {'photos/s':>9} {'(least to most)':>16} {'CPU ms a photo':>15} {'faces':>6} {'TAR':>7} {'peak MB':>8}"
    )
    for key, rows in samples.items():
        rates = [count / row["wall"] for row in rows]
        cpu = 1e3 * median(row["cpu"] for row in rows) / count
        quality = found["quality"][key]
        peak = max(row["peak_mb"] for row in rows)
        print(
            f"{key:<22} {median(rates):>9.1f} {f'({min(rates):.1f} to {max(rates):.1f})':>16} {cpu:>15.1f}"
            f" {quality['found']:>6} {quality['tar']:>7.1%} {peak:>8.0f}"
        )
    for peer, ratios in found["times_as_fast"].items():
        spread = f"({min(ratios):.1f} to {max(ratios):.1f})"
        print(
            f"times as fast as {peer} at its better: {median(ratios):.1f} {spread}, wanted {found['target']}"
        )
    print_stages(found["stages"])


def print_stages(found: dict[str, Any]) -> None:
    total = sum(stage["ms"] for stage in found["stages"].values())
    print(f"one thread, {total:.1f} ms of CPU a photo; matrix product {found['gemm_gflops']:.0f} GFLOP/s")
    print(f"  {'stage':<28} {'ms':>6} {'share':>6} {'floor':>6} {'times the floor':>16}")
    for stage, row in found["stages"].items():
        floor = "" if row["floor_ms"] is None else f"{row['floor_ms']:.2f}"
        ratio = "" if row["floor_ms"] is None else f"{row['ms'] / row['floor_ms']:.1f}"
        print(f"  {stage:<28} {row['ms']:>6.2f} {row['ms'] / total:>6.0%} {floor:>6} {ratio:>16}")


LONG = """
import json, sys, time
from pathlib import Path
from facecli.templates.embedder import Embedder
from facecli.gallery.refresh import refresh
folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
page = 4096
seen = []
def progress(done, total):
    if done % max(1, total // 20) == 0:
        resident = int(open("/proc/self/statm").read().split()[1]) * page / 2**20
        seen.append((done, time.perf_counter() - start, resident))
embedder = Embedder(cache_dir=cache)
start = time.perf_counter()
gallery, done = refresh(folder, embedder, cache_dir=cache, progress=progress)
wall, cpu = time.perf_counter() - start, time.process_time()
print(json.dumps({"wall": wall, "cpu": cpu, "templates": len(gallery.samples), "done_seconds_mb": seen}))
"""


def long_run(source: Path, scratch: Path, count: int) -> dict[str, Any]:
    """Enrol `count` photos, all different, in a process of its own; return its time and its memory on the way."""
    folder = scratch / "long"
    photos = sorted(source.glob("*/*.jpg"))
    for k in range(count):
        photo = photos[k % len(photos)]
        target = folder / f"{photo.parent.name}-{k // len(photos)}" / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A decoder stops at the end of the picture; what follows makes the file another one.
        target.write_bytes(photo.read_bytes() + (k // len(photos)).to_bytes(2, "little"))
    root = str(WORKER.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", LONG, folder, default_cache_dir()]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    found = json.loads(done.stdout)
    memory = [row[2] for row in found["done_seconds_mb"]]
    return {"photos": count, "early_and_most_mb": (memory[len(memory) // 10 - 1], max(memory)), **found}


def report_long(long: dict[str, Any]) -> None:
    early, most = long["early_and_most_mb"]
    print(f"\n{long['photos']:,} photos: {long['templates']:,} templates in {long['wall']:.0f} s,")
    print(
        f"{long['photos'] / long['wall']:.1f} photos/s, {1e3 * long['cpu'] / long['photos']:.1f} ms of CPU each;"
    )
    print(f"memory {early:.0f} MB after a tenth, {most:.0f} MB at most")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - started:.0f} s")
