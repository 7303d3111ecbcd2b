"""Loss and miner speed beside pytorch-metric-learning, forward and backward, in one run on one thread.

    pip install pytorch-metric-learning
    python benchmarks/train_losses_speed.py [--batch 128 512 1024] [--json FILE]

Embeddings are 512-d, 4 images a class, float32, spread about their class so that some triplets are active. Each
figure is the least processor time of several repeats, ours and theirs taking turns. `peak` is the greatest resident
memory of the process less that before, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch

from facecli.training.losses import batch, miners
from facecli.training.losses import classes as classifiers

DIM, IMAGES = 512, 4
SLOW = ("nt-xent",)
"""Cases whose other side takes most of a minute at 512 already, and is not run beyond."""


def cases(classes: int):
    """Return name -> (ours, theirs): functions of embeddings and labels that return a loss."""
    from pytorch_metric_learning import losses as peer
    from pytorch_metric_learning import miners as mining

    def ours(loss):
        generator = torch.Generator().manual_seed(0)
        return lambda rows, labels: loss(rows, labels, generator).loss

    def theirs(loss, miner=None):
        return lambda rows, labels: loss(rows, labels, miner(rows, labels) if miner is not None else None)

    triplet = peer.TripletMarginLoss(0.2)
    return {
        "triplet, all": (ours(batch.Triplet(0.2)), theirs(triplet)),
        "triplet, batch-hard": (
            ours(batch.Triplet(0.2, miner=miners.batch_hard)),
            theirs(triplet, mining.BatchHardMiner()),
        ),
        "triplet, semi-hard": (
            ours(batch.Triplet(0.2, miner=miners.semi_hard)),
            theirs(triplet, mining.TripletMarginMiner(0.2, "semihard")),
        ),
        "triplet, distance-weighted": (
            ours(batch.Triplet(0.2, miner=miners.distance_weighted)),
            theirs(triplet, mining.DistanceWeightedMiner()),
        ),
        "contrastive": (ours(batch.Contrastive()), theirs(peer.ContrastiveLoss())),
        "multi-similarity": (ours(batch.MultiSimilarity()), theirs(peer.MultiSimilarityLoss())),
        "multi-similarity, mined": (
            ours(batch.MultiSimilarity(miner=miners.multi_similarity)),
            theirs(peer.MultiSimilarityLoss(), mining.MultiSimilarityMiner(0.1)),
        ),
        "nt-xent": (ours(batch.NTXent()), theirs(peer.NTXentLoss())),
        "supcon": (ours(batch.SupCon()), theirs(peer.SupConLoss())),
        "circle": (ours(batch.Circle()), theirs(peer.CircleLoss())),
        "arcface": (ours(classifiers.ArcFace(DIM, classes)), theirs(peer.ArcFaceLoss(classes, DIM))),
        "cosface": (ours(classifiers.CosFace(DIM, classes)), theirs(peer.CosFaceLoss(classes, DIM))),
    }


def batch_of(size: int):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(size) // IMAGES
    centres = torch.randn(size // IMAGES, DIM, generator=generator)
    rows = centres[labels] + 1.5 * torch.randn(size, DIM, generator=generator)
    return rows.requires_grad_(), labels


def once(loss, rows, labels) -> float:
    rows.grad = None
    start = time.process_time()
    loss(rows, labels).backward()
    return time.process_time() - start


def measure(name: str, size: int) -> dict:
    pair = cases(size // IMAGES)[name]
    rows, labels = batch_of(size)
    if name in SLOW and size > 512:
        pair = pair[:1]
    best = [once(loss, rows, labels) for loss in pair]
    end = time.perf_counter() + min(4.0, 12 * sum(best))
    while time.perf_counter() < end:
        best = [min(b, once(loss, rows, labels)) for b, loss in zip(best, pair, strict=True)]
    theirs_ms = best[1] * 1e3 if len(best) > 1 else float("nan")
    return {"case": name, "batch": size, "ours_ms": best[0] * 1e3, "theirs_ms": theirs_ms}


def high_water() -> float:
    """Return the greatest resident memory of this process so far, in MiB (Linux)."""
    # Not getrusage, whose figure a child inherits from the process that started it.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def peak(name: str, size: int, which: int) -> float:
    """Return MiB above the start in a fresh process."""
    code = (
        f"import sys; sys.path.insert(0, {sys.path[0]!r})\n"
        f"from train_losses_speed import *\n"
        f"torch.set_num_threads(1)\n"
        f"loss = cases({size // IMAGES})[{name!r}][{which}]\n"
        f"rows, labels = batch_of({size}); small = batch_of(16); once(loss, *small)\n"
        f"before = high_water(); once(loss, rows, labels); print(high_water() - before)\n"
    )
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for size in options.batch:
        for name in cases(4):
            row = measure(name, size)
            if name == "triplet, all":
                row["ours_mib"], row["theirs_mib"] = (peak(name, size, which) for which in (0, 1))
            found.append(row)
            memory = f"  {row['ours_mib']:.0f} / {row['theirs_mib']:.0f} MiB" if "ours_mib" in row else ""
            print(
                f"{size:5d}  {name:28s} {row['ours_ms']:9.2f} ms {row['theirs_ms']:9.2f} ms"
                f"  x{row['theirs_ms'] / row['ours_ms']:.1f}{memory}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"torch": torch.__version__, "rows": found}, file, indent=1)


if __name__ == "__main__":
    main()
