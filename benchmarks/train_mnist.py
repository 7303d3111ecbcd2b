"""MNIST: every loss and miner on the same network, 2 and 64 dimensions, seen and unseen digits.

    python benchmarks/train_mnist.py DATA [--dim 2 64] [--epochs 6] [--json FILE] [--only NAME ...]

DATA holds the idx files of the 10,000 test digits: 8,000 to learn from, 2,000 to test on, divided by a seed. Each
test digit is searched among the other test digits: precision at 1 (1-NN accuracy) and MAP@R. `unseen` trains on the
digits 0 to 6 of the 8,000 and tests on 7 to 9 of the 2,000. Every row starts from the same weights and sees as many
images an epoch, but for the pairs and triplets drawn blindly, which see two and three times as many. One thread.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facecli.stats.retrieval import retrieval
from facecli.training import data as training_data
from facecli.training import recipe
from facecli.training.config import TrainConfig
from facecli.training.learner import Learner
from facecli.training.start import base_spec, start

ROWS = {
    "before training": {},
    "softmax baseline": {"loss": "softmax"},
    "siamese, logistic, random pairs": {"loss": "logistic", "miner": "random-pairs"},
    "siamese, contrastive, random pairs": {"loss": "contrastive", "miner": "random-pairs"},
    "triplet, random triplets": {"loss": "triplet", "miner": "random-triplets"},
    "online contrastive, hard negatives": {"loss": "contrastive", "miner": "hard-negatives"},
    "online triplet, all": {"loss": "triplet", "miner": "all"},
    "online triplet, batch-hard, soft": {
        "loss": "triplet",
        "miner": "batch-hard",
        "soft": True,
        "margin": 0.0,
    },
    "online triplet, hardest negative": {"loss": "triplet", "miner": "hardest-negative"},
    "online triplet, semi-hard": {"loss": "triplet", "miner": "semi-hard"},
    "online triplet, random hard": {"loss": "triplet", "miner": "random-hard"},
    "online triplet, distance-weighted": {"loss": "triplet", "miner": "distance-weighted"},
    "multi-similarity": {"loss": "multi-similarity"},
    "nt-xent": {"loss": "nt-xent"},
    "supcon": {"loss": "supcon"},
    "circle": {"loss": "circle"},
    "arcface": {"loss": "arcface", "scale": 16.0},
    "cosface": {"loss": "cosface", "scale": 16.0},
    "sub-center": {"loss": "sub-center", "scale": 16.0},
}


def divided(data: Path, cache: Path, seed: int):
    """Return the 8,000 and the 2,000."""
    spec = replace(base_spec("small-cnn"), input_size=28)
    whole = training_data.load(data, spec, cache_dir=cache)
    order = np.random.default_rng(seed).permutation(len(whole))

    def part(chosen):
        digests = tuple(np.array(whole.digests)[chosen].tolist())
        return training_data.TrainingSet(whole.chips[chosen], whole.labels[chosen], whole.subjects, digests)

    return part(order[:8000]), part(order[8000:])


def row(name: str, dim: int, epochs: int, train, test, seed: int) -> dict:
    config = TrainConfig(
        data=Path(),
        out=Path("run"),
        base="small-cnn",
        dim=dim,
        width=8,
        input_size=28,
        epochs=epochs,
        people=len(train.subjects),
        images=12,
        augmentation="none",
        lr=2e-3,
        loss_lr_factor=5.0,
        seed=seed,
        **ROWS[name],
    )
    begun = start(config, cache_dir=Path())
    learner = Learner(recipe.decided(config, begun), begun, train)
    clock = time.perf_counter()
    for epoch in range(1, epochs + 1) if name != "before training" else ():
        learner.epoch(epoch, lambda *step: None)
    seconds = time.perf_counter() - clock
    found = retrieval(learner.templates(test.chips), test.names)
    return {
        "row": name,
        "dim": dim,
        "precision_at_1": float(found.precision_at_1.mean()),
        "map_at_r": float(found.map_at_r.mean()),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--dim", type=int, nargs="+", default=[2, 64])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(ROWS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = divided(options.data, Path("run-cache"), options.seed)
    settings = {
        "seen": (train, test),
        "unseen": (train.of([str(d) for d in range(7)]), test.of([str(d) for d in range(7, 10)])),
    }
    rows = []
    for kind, (learned, tested) in settings.items():
        for dim in options.dim:
            for name in options.only:
                found = {"digits": kind} | row(name, dim, options.epochs, learned, tested, options.seed)
                rows.append(found)
                print(
                    f"{kind:6s} {dim:3d}-D  {name:36s} 1-NN {found['precision_at_1']:.3f}"
                    f"  MAP@R {found['map_at_r']:.3f}  {found['seconds']:.0f} s",
                    flush=True,
                )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
