"""What each benchmark shall show, read off the samples that its script wrote as JSON."""

from __future__ import annotations

from statistics import median
from typing import Any

Target = dict[str, Any]
"""`name`, `target` and `measured` as the table shows them, `met`."""


def cold(found: dict[str, Any]) -> list[Target]:
    runs = {name: [wall for wall, _ in rows] for name, rows in found["wall_and_cpu_seconds"].items()}
    verify, floor = runs["facecli verify"], runs["imports and sessions alone"]
    return [
        below("cold verify of two 640 px photos, s", 0.8, median(verify)),
        below("cold verify, times its imports and sessions alone", 1.5, ratio(verify, floor)),
    ]


def enrolment(found: dict[str, Any]) -> list[Target]:
    rows = []
    for name, part in found["sets"].items():
        least = min(median(values) for values in part["times_as_fast"].values())
        rows.append(above(f"enrol {name}: times as fast as the faster peer", part["target"], least))
        quality, own = part["quality"], part["own"]
        for key, name_of in (("found", "photos with a face"), ("tar", "TAR at FMR 1e-3")):
            best = max(row[key] for peer, row in quality.items() if not peer.startswith("facecli"))
            rows.append(above(f"enrol {name}: {name_of}, against the better peer", best, quality[own][key]))
    if "long" in found:
        early, late = found["long"]["early_and_most_mb"]
        photos = found["long"]["photos"]
        rows.append(
            below(f"enrol {photos:,} photos: most memory, times that after a tenth", 1.1, late / early)
        )
    return rows


def detection(found: dict[str, Any]) -> list[Target]:
    share = 1 - len(found["missed"]) / found["faces"]
    rows = [above("faces of facenet-pytorch's MTCNN that are found", 0.99, share)]
    for size, ms in found["ms"].items():
        times = ratio(ms["facenet-pytorch"], ms["largest"])
        rows.append(above(f"detection at {size}: times as fast as that MTCNN", 1, times))
    return rows


def search(found: dict[str, Any]) -> list[Target]:
    """Return the targets of every size; ours and the bare reading each with the better number of threads."""
    rows = []
    for size in found["sizes"]:
        own, read = (
            [row for row in size["contestants"] if row["name"].startswith(name) and "thread" in row["name"]]
            for name in ("facecli, ", "read int8, ")
        )
        name = f"search of {size['rows']:,} x {size['dim']}"
        one, bare = (min(median(row["one_ms"]) for row in forms) for forms in (own, read))
        rows.append(below(f"{name}: times reading the bytes", 1.3, one / bare))
        operations = 2 * size["rows"] * size["dim"] * size["probes"]
        seconds = min(median(row["many_s"]) for row in own)
        share = operations / seconds / 1e9 / max(size["gemm_gflops"])
        rows.append(above(f"{name}: {size['probes']} probes, share of the matrix product's rate", 0.5, share))
        rows.append(above(f"{name}: recall", 1, min(row["recall"] for row in own)))
    return rows


def million(found: dict[str, Any]) -> list[Target]:
    n, samples = found["n"], found["rounds"]
    refresh, bare = ([wall for wall, _ in samples[name]] for name in ("refresh", "bare"))
    rows = [below(f"freshness of {n:,} photos, times a bare walk", 1.3, ratio(refresh, bare))]
    if "find --no-refresh" in found:
        cold = found["find --no-refresh"]
        rows.append(below(f"find among {n:,} without refresh, s", 1, median(cold["seconds"])))
        rows.append(below(f"find among {n:,}: memory beside the matrix, MB", 300, max(found["find"]["mb"])))
    return rows


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median of the ratios within the rounds."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def above(name: str, limit: float, measured: float) -> Target:
    return _target(name, f">= {round(limit, 3)}", measured, measured >= limit)


def below(name: str, limit: float, measured: float) -> Target:
    return _target(name, f"<= {limit}", measured, measured <= limit)


def _target(name: str, limit: str, measured: float, met: bool) -> Target:
    return {"name": name, "target": limit, "measured": round(measured, 3), "met": met}
