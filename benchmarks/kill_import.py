"""Kills a `db import` at random moments, again and again, and checks that nothing is lost, repeated or wrong.

    python benchmarks/kill_import.py [--rows 1000000] [--dim 512] [--kills 10] [--json FILE] [--quick]

Templates of made-up people, 20 each, are imported in one go, which gives the time and the memory. Then the same file
is imported into another database by processes that are killed (-9) at random moments; after each kill the database
must open and hold at least what it held before. When one import has run to its end, the database must equal the first:
the same samples with the same templates, and not a row more. Prints a table; exits with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from facecli.errors import DatabaseError
from facecli.gallery.gallery import Gallery
from facecli.gallery.store.folder import store_folders
from facecli.gallery.store.writer import Store
from facecli.gallery.upkeep.take_in import import_templates
from facecli.templates.blocks import read_blocks
from facecli.templates.records import ROW_COLUMNS

EACH = 20


def embedder_id(dim: int) -> str:
    return f"made-up-{dim}"


def make_up(npy: Path, n: int, dim: int) -> None:
    """Write `n` unit rows [n, dim] around a centre for each subject, and their table, block by block."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(npy, "w+", np.float32, (n, dim))
    with open(npy.with_suffix(".csv"), "w", encoding="utf-8") as table:
        table.write(",".join([*ROW_COLUMNS, "subject"]) + "\n")
        for start in range(0, n, 400 * EACH):
            at = np.arange(start, min(start + 400 * EACH, n))
            centres = rng.standard_normal((-(-len(at) // EACH), dim), dtype=np.float32)
            rows = np.repeat(centres, EACH, axis=0)[: len(at)]
            rows = rows + rng.standard_normal(rows.shape, dtype=np.float32)
            array[at] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            for row in at.tolist():
                name = f"person {row // EACH:06}"
                place = f"{name}/{row % EACH}.jpg,0,1,10.0,10.0,90.0,110.0,0.99"
                table.write(f"{row},{place},{embedder_id(dim)},{name}\n")
    array.flush()


def child(npy: Path, root: Path, dim: int) -> None:
    """Import; print what it took as JSON."""
    print("ready", flush=True)
    began, used = time.monotonic(), time.process_time()
    done = import_templates(
        root,
        read_blocks(npy, embedder_id=embedder_id(dim), dim=dim),
        embedder_id=embedder_id(dim),
        dim=dim,
        cache_dir=root.parent / "cache",
    )
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps(
            {
                "new": done.n_new,
                "known": done.n_known,
                "seconds": round(time.monotonic() - began, 2),
                "cpu_seconds": round(time.process_time() - used, 2),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "anonymous_mib": int(status["RssAnon"].split()[0]) // 1024,
            }
        )
    )


def start(npy: Path, root: Path, dim: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--child", str(npy), str(root), "--dim", str(dim)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    next(iter(process.stdout or ()))
    return process


def held(root: Path, dim: int) -> int:
    """Return how many samples the database holds, all of which must have a whole template."""
    try:
        gallery = Gallery.open(root, embedder_id(dim), dim, cache_dir=root.parent / "cache")
    except DatabaseError:
        # Killed before its index was made.
        return 0
    return len(gallery.samples)


def differences(a: Path, b: Path, dim: int) -> list[str]:
    """Compare two databases, sample by sample and bit by bit."""
    cache = a.parent / "cache"
    folders = [store_folders(root, cache)[0].folder for root in (a, b)]
    with Store.reading(folders[0], dim) as one, Store.reading(folders[1], dim) as two:
        wrong = []
        samples = [kept.samples() for kept in (one, two)]
        if [sample[:2] for sample in samples[0]] != [sample[:2] for sample in samples[1]]:
            wrong.append("the samples differ")
        rows = [np.array([row for _, _, row in part], np.int64) for part in samples]
        matrices = [kept.matrix() for kept in (one, two)]
        for at in range(0, len(rows[0]), 8192):
            left, right = (m[r[at : at + 8192]] for m, r in zip(matrices, rows, strict=True))
            if left.tobytes() != right.tobytes():
                wrong.append(f"templates {at} to {at + 8192} differ")
        if len(matrices[0]) != len(matrices[1]):
            wrong.append(f"the matrix has {len(matrices[1])} rows, not {len(matrices[0])}")
        return wrong


def run(args: argparse.Namespace, work: Path) -> dict[str, object]:
    npy, whole, root = work / "faces.npy", work / "whole", work / "killed"
    make_up(npy, args.rows, args.dim)
    with start(npy, whole, args.dim) as process:
        first = json.loads(process.stdout.read() if process.stdout is not None else b"")
    rng = random.Random(args.seed)
    wrong: list[str] = []
    kills, before, gained = 0, 0, []
    while True:
        with start(npy, root, args.dim) as process:
            patience = (
                rng.uniform(0, 2 * first["seconds"] / max(1, args.kills)) if kills < args.kills else None
            )
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
        after = held(root, args.dim)
        if after < before:
            wrong.append(f"kill {kills}: {before - after} samples lost")
        gained.append(after - before)
        before = after
        if process.returncode == 0:
            break
        if process.returncode != -9:
            wrong.append(f"kill {kills}: ended with {process.returncode}")
            break
    wrong += differences(whole, root, args.dim)
    with start(npy, root, args.dim) as process:
        again = json.loads(process.stdout.read() if process.stdout is not None else b"")
    if again["new"] or again["known"] != args.rows:
        wrong.append(f"imported once more: {again['new']} new")
    index = store_folders(root, work / "cache")[0].folder / "index.sqlite"
    return {
        "rows": args.rows,
        "dim": args.dim,
        **{f"one_go_{key}": value for key, value in first.items()},
        "rows_per_second": round(args.rows / first["seconds"]),
        "index_mib": index.stat().st_size >> 20,
        "kills": kills,
        "gained_median": statistics.median(gained),
        "gained": gained,
        "again_seconds": again["seconds"],
        "wrong": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="100,000 rows of 128 numbers, 4 kills")
    parser.add_argument("--work", type=Path, help="a folder on a large disk [default: a temporary one]")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(*args.child, args.dim)
        return 0
    if args.quick:
        args.rows, args.dim, args.kills = 100_000, 128, 4
    work = Path(tempfile.mkdtemp(dir=args.work))
    try:
        record = run(args, work)
    finally:
        shutil.rmtree(work)
    for key, value in record.items():
        print(f"{key:>22}  {value}")
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if record["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
