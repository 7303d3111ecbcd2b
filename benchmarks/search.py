"""Search among many templates: facecli's exact search, NumPy, faiss, usearch and hnswlib.

    python benchmarks/search.py [--quick] [--ten-million] [--graphs 100000] [--json FILE]

Templates are made up: subjects of 20 samples, in the order of the subjects, as enrolment writes them. Mated
similarities are 0.67 with a standard deviation of 0.07 in 512 numbers (0.10 in 128), non-mated 0 and 0.08 (0.16).
Half of the probes show someone enrolled. All find the 10 most similar rows; "subjects" finds the 10 most similar
subjects. Those that are not installed are named and left out; only numpy is needed. HNSW is built for galleries up
to --graphs rows: it takes long.

Every round runs all contestants once, in turn from another start; shown are medians, with the least and the most
behind them. "read" sums the bytes once, as 64-bit integers: what no exact search can beat; "GEMM" multiplies two
square float32 matrices. The files are in the page cache and mapped; "fresh mapping" maps them anew each time, as
a new process does. Recall is against a scan in double precision.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from facecli.gallery.store.int8_copy import Compact, extend
from facecli.gallery.store.search import best_rows

PER_SUBJECT = 20
TOP = 10
BLOCK = 20_000
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Contestant:
    """`find` takes float32 [M, D] and returns the rows found, [M, TOP]; none for the yardsticks."""

    name: str
    find: Callable[[np.ndarray], np.ndarray | None]
    nbytes: int
    build_seconds: float = 0.0
    exact: bool = True
    one_ms: list[float] = field(default_factory=list)
    many_s: list[float] = field(default_factory=list)
    one_cpu_ms: list[float] = field(default_factory=list)
    many_cpu_s: list[float] = field(default_factory=list)
    recall: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100,000 x 512 only")
    parser.add_argument("--ten-million", action="store_true", help="10,000,000 x 128 too: 7 GB on the disk")
    parser.add_argument("--sizes", help="instead, for example 1000000x512,1000000x128")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--probes", type=int, default=64)
    parser.add_argument("--graphs", type=int, default=100_000, help="the most rows that HNSW is built for")
    parser.add_argument("--only", help="contestants whose names hold one of these, separated by commas")
    parser.add_argument("--folder", type=Path, help="where the galleries are put (default: a temporary one)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if importlib.util.find_spec("numkong") is None:
        print("numkong is not installed: facecli scans all in float32")
    sizes = ["100000x512"] if arguments.quick else ["100000x512", "1000000x512", "1000000x128"]
    if arguments.ten_million:
        sizes.append("10000000x128")
    if arguments.sizes:
        sizes = arguments.sizes.split(",")
    results = []
    for size in sizes:
        n, dim = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            results.append(one_size(Path(folder), n, dim, arguments))
    if arguments.json is not None:
        document = {"machine": machine(), "threads": THREADS, "sizes": results}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def one_size(folder: Path, n: int, dim: int, arguments: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    spread = spectrum(dim)
    gallery = make_gallery(folder / "templates.npy", n, dim, rng, spread)
    probes = make_probes(gallery, arguments.probes, rng, spread)
    truth = exact_rows(gallery, probes)
    contestants = prepared(folder, gallery, n <= arguments.graphs, arguments.only)
    for contestant in contestants:
        found = contestant.find(probes)
        if found is not None:
            contestant.recall = float(
                np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)])
            )
        contestant.find(probes[:1])
    for round_ in range(arguments.rounds):
        shift = round_ % len(contestants)
        for contestant in contestants[shift:] + contestants[:shift]:
            one = probes[round_ % len(probes)][None]
            wall, cpu = timed(contestant.find, one)
            contestant.one_ms.append(1e3 * wall)
            contestant.one_cpu_ms.append(1e3 * cpu)
            if round_ % 3 == 0:
                wall, cpu = timed(contestant.find, probes)
                contestant.many_s.append(wall)
                contestant.many_cpu_s.append(cpu)
    gemm = [gemm_gflops() for _ in range(5)]
    report(contestants, n, dim, len(probes), max(gemm))
    kept = [{k: v for k, v in vars(c).items() if k != "find"} for c in contestants]
    return {"rows": n, "dim": dim, "probes": len(probes), "gemm_gflops": gemm, "contestants": kept}


def spectrum(dim: int) -> np.ndarray:
    """Scales of the directions: a face's template uses some far more than others."""
    scales = np.exp(-np.arange(dim) / (dim / 4)) + 0.05
    return (scales / np.linalg.norm(scales)).astype(np.float32)


def make_gallery(path: Path, n: int, dim: int, rng: np.random.Generator, spread: np.ndarray) -> np.ndarray:
    """Write unit rows, float32 [n, dim], block by block, and return them mapped."""
    gallery = np.lib.format.open_memmap(path, "w+", np.float32, (n, dim))
    for start in range(0, n, BLOCK):
        centres = unit(rng.standard_normal((BLOCK // PER_SUBJECT, dim), dtype=np.float32) * spread)
        block = samples(np.repeat(centres, PER_SUBJECT, axis=0), rng, spread)
        gallery[start : start + BLOCK] = block[: n - start]
    gallery.flush()
    return np.load(path, mmap_mode="r")


def make_probes(gallery: np.ndarray, count: int, rng: np.random.Generator, spread: np.ndarray) -> np.ndarray:
    """Return float32 [count, D]: in turn of somebody enrolled, and of a stranger."""
    probes = unit(rng.standard_normal((count, gallery.shape[1]), dtype=np.float32) * spread)
    subjects = rng.integers(0, len(gallery) // PER_SUBJECT, len(probes[::2]))
    own = np.stack([gallery[s * PER_SUBJECT : (s + 1) * PER_SUBJECT].mean(axis=0) for s in subjects])
    probes[::2] = samples(unit(own), rng, spread)
    return probes


def samples(centres: np.ndarray, rng: np.random.Generator, spread: np.ndarray) -> np.ndarray:
    noise = rng.uniform(0.45, 0.95, (len(centres), 1)).astype(np.float32)
    return unit(centres + noise * spread * rng.standard_normal(centres.shape, dtype=np.float32))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def exact_rows(gallery: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """Return the TOP most similar rows of each probe by a scan in double precision, [M, TOP]."""
    wide = probes.astype(np.float64).T
    best = np.empty((0, len(probes)))
    rows = np.empty((0, len(probes)), np.int64)
    for start in range(0, len(gallery), BLOCK):
        scores = np.concatenate([best, gallery[start : start + BLOCK].astype(np.float64) @ wide])
        new = np.arange(start, min(start + BLOCK, len(gallery)))
        rows = np.concatenate([rows, np.repeat(new[:, None], len(probes), axis=1)])
        top = np.argpartition(-scores, TOP, axis=0)[:TOP]
        best, rows = np.take_along_axis(scores, top, axis=0), np.take_along_axis(rows, top, axis=0)
    return rows.T


def prepared(folder: Path, gallery: np.ndarray, graphs: bool, only: str | None) -> list[Contestant]:
    n, dim = gallery.shape
    copy_path = folder / "compact.npy"
    started = time.perf_counter()
    extend(copy_path, gallery, b"benchmark")
    build = time.perf_counter() - started
    copy = Compact.open(copy_path, dim, b"benchmark")
    owners = (np.arange(n) // PER_SUBJECT).astype(np.int32)
    floats = gallery.nbytes
    codes = copy_path.stat().st_size

    def rows(found: list) -> np.ndarray:
        return np.stack([best.rows for best in found])

    def fresh(probes: np.ndarray) -> np.ndarray:
        mapped = np.load(folder / "templates.npy", mmap_mode="r")
        again = Compact.open(copy_path, dim, b"benchmark")
        return rows(best_rows(mapped, probes, TOP, compact=again, threads=THREADS))

    def subjects(probes: np.ndarray) -> None:
        best_rows(gallery, probes, TOP, owners=owners, compact=copy, threads=THREADS)

    made = [
        *(
            reader(f"read int8, {named(t)}", codes, np.load(copy_path, mmap_mode="r"), t)
            for t in sorted({1, THREADS})
        ),
        *(reader(f"read float32, {named(t)}", floats, gallery, t) for t in sorted({1, THREADS})),
        *(
            Contestant(
                f"facecli, {named(t)}",
                lambda p, t=t: rows(best_rows(gallery, p, TOP, compact=copy, threads=t)),
                codes,
                build,
            )
            for t in sorted({1, THREADS})
        ),
        Contestant("facecli, fresh mapping", fresh, codes, build),
        Contestant("facecli, subjects", subjects, codes, build),
        Contestant("facecli, float32", lambda p: rows(best_rows(gallery, p, TOP)), floats),
        Contestant("numpy in blocks", lambda p: numpy_rows(gallery, p), floats),
    ]
    for name, make in (
        ("faiss", faiss_contestants),
        ("usearch", usearch_contestants),
        ("hnswlib", hnswlib_contestants),
    ):
        if only is not None and not any(part in name for part in only.split(",")):
            continue
        try:
            made += make(gallery, graphs)
        except ImportError:
            print(f"{name} is not installed: left out")
    if only is not None:
        made = [
            c for c in made if c.name.startswith("read") or any(part in c.name for part in only.split(","))
        ]
    return made


def named(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def reader(name: str, nbytes: int, data: np.ndarray, threads: int) -> Contestant:
    flat = data.reshape(-1).view(np.int64)

    def read(_: np.ndarray) -> None:
        if threads == 1:
            flat.sum()
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.sum, np.array_split(flat, threads)))

    return Contestant(name, read, nbytes)


def numpy_rows(gallery: np.ndarray, probes: np.ndarray, block: int = 16_384) -> np.ndarray:
    """What one writes: products of blocks, and the best of each by `argpartition`."""
    best, rows = [], []
    for start in range(0, len(gallery), block):
        scores = probes @ gallery[start : start + block].T
        top = np.argpartition(scores, -min(TOP, scores.shape[1]), axis=1)[:, -TOP:]
        best.append(np.take_along_axis(scores, top, axis=1))
        rows.append(top + start)
    joined = np.concatenate(best, axis=1)
    return np.take_along_axis(np.concatenate(rows, axis=1), np.argsort(-joined, axis=1)[:, :TOP], axis=1)


def faiss_contestants(gallery: np.ndarray, graphs: bool) -> list[Contestant]:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    n, dim = gallery.shape
    inner = faiss.METRIC_INNER_PRODUCT
    made = [
        Contestant("faiss flat", lambda p: faiss.knn(p, gallery, TOP, metric=inner)[1], gallery.nbytes),
        built(
            "faiss SQ8",
            faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, inner),
            gallery,
            n * dim,
        ),
    ]
    if graphs:
        index = faiss.IndexHNSWFlat(dim, 32, inner)
        index.hnsw.efSearch = 64
        made.append(built("faiss HNSW", index, gallery, gallery.nbytes + n * 64 * 4))
    return made


def built(name: str, index: Any, gallery: np.ndarray, nbytes: int) -> Contestant:
    started = time.perf_counter()
    index.train(np.ascontiguousarray(gallery[: 10 * BLOCK]))
    for start in range(0, len(gallery), BLOCK):
        index.add(np.ascontiguousarray(gallery[start : start + BLOCK]))
    return Contestant(
        name, lambda p: index.search(p, TOP)[1], nbytes, time.perf_counter() - started, exact=False
    )


def usearch_contestants(gallery: np.ndarray, graphs: bool) -> list[Contestant]:
    from usearch.index import Index, MetricKind, search

    n, dim = gallery.shape

    def exact(probes: np.ndarray) -> np.ndarray:
        found = search(np.asarray(gallery), probes, TOP, MetricKind.IP, exact=True, threads=THREADS)
        return np.atleast_2d(found.keys)

    made = [Contestant("usearch exact", exact, gallery.nbytes)]
    if graphs:
        index = Index(
            ndim=dim, metric="ip", dtype="i8", connectivity=32, expansion_add=128, expansion_search=64
        )
        started = time.perf_counter()
        for start in range(0, n, BLOCK):
            part = np.ascontiguousarray(gallery[start : start + BLOCK])
            index.add(np.arange(start, start + len(part)), part, threads=THREADS)
        made.append(
            Contestant(
                "usearch HNSW int8",
                lambda p: np.atleast_2d(index.search(p, TOP, threads=THREADS).keys),
                int(index.memory_usage),
                time.perf_counter() - started,
                exact=False,
            )
        )
    return made


def hnswlib_contestants(gallery: np.ndarray, graphs: bool) -> list[Contestant]:
    import hnswlib

    if not graphs:
        return []
    n, dim = gallery.shape
    started = time.perf_counter()
    index = hnswlib.Index(space="ip", dim=dim)
    index.init_index(max_elements=n, ef_construction=128, M=32)
    index.set_num_threads(THREADS)
    for start in range(0, n, BLOCK):
        index.add_items(gallery[start : start + BLOCK])
    index.set_ef(64)
    return [
        Contestant(
            "hnswlib HNSW",
            lambda p: index.knn_query(p, TOP)[0].astype(np.int64),
            n * (dim * 4 + 64 * 4 + 8),
            time.perf_counter() - started,
            exact=False,
        )
    ]


def gemm_gflops(side: int = 2048) -> float:
    a = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    started = time.perf_counter()
    a @ a
    return 2 * side**3 / (time.perf_counter() - started) / 1e9


def timed(find: Callable[[np.ndarray], object], probes: np.ndarray) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    find(probes)
    return time.perf_counter() - wall, time.process_time() - cpu


def report(contestants: list[Contestant], n: int, dim: int, count: int, gemm: float) -> None:
    reads = {c.name.split()[1].rstrip(","): [] for c in contestants if c.name.startswith("read")}
    for c in contestants:
        if c.name.startswith("read"):
            reads[c.name.split()[1].rstrip(",")].append(median(c.one_ms))
    print(f"\n{n:,} x {dim}; GEMM {gemm:.0f} GFLOP/s at best; times are medians (least - most)\n")
    print(
        f"| | one probe, ms | x read int8 | CPU ms | {count} probes, s | share of GEMM | CPU s | MB | build s | recall@10 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    least = min(reads["int8"])
    for c in contestants:
        one, many = median(c.one_ms), median(c.many_s)
        share = f"{2 * n * dim * count / many / 1e9 / gemm:.2f}"
        is_read = c.name.startswith("read")
        cells = [
            c.name,
            f"{one:.1f} ({min(c.one_ms):.1f} - {max(c.one_ms):.1f})",
            f"{one / least:.2f}",
            f"{median(c.one_cpu_ms):.1f}",
            "" if is_read else f"{many:.3f} ({min(c.many_s):.3f} - {max(c.many_s):.3f})",
            "" if is_read else share,
            "" if is_read else f"{median(c.many_cpu_s):.3f}",
            f"{c.nbytes / 1e6:,.0f}",
            f"{c.build_seconds:.1f}" if c.build_seconds else "",
            "" if c.recall is None else f"{c.recall:.3f}",
        ]
        print("| " + " | ".join(cells) + " |")


def machine() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return {
        "cpu": name,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
    }


if __name__ == "__main__":
    main()
