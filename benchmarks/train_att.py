"""AT&T faces, people held out: the classical siamese recipe beside ours, on the same splits.

    python benchmarks/train_att.py DATA [--recipe classical|ours] [--split 37/3 30/10] [--seeds 5] [--json FILE]

DATA holds `training/` (37 people) and `testing/` (3), as in the well-known tutorial. Split 30/10 draws the ten
people by the seed from all forty. The classical recipe is that tutorial's: three convolutions with batch norm and
reflected borders and three full layers down to 5 numbers, at 100 x 100, contrastive loss with margin 2 on raw
distances of random pairs, half of them mated, Adam 5e-4, 100 epochs of as many pairs as images, the last epoch
taken. Ours is `facecli train --base small-cnn` with the options below; a fifth of its training people choose
the epoch. Both are scored on the people held out, by cosine and, for the classical one, also by its own distance.
One thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from train_settings import settings

from facecli.models import checkpoint
from facecli.training import data as training_data
from facecli.training import samplers
from facecli.training.config import TrainConfig
from facecli.training.fit import fit
from facecli.training.losses.geometry import unit
from facecli.training.start import base_spec
from facecli.training.validation import verification

CLASSICAL_PX, CLASSICAL_EPOCHS, CLASSICAL_PAIRS = 100, 100, 64
OURS = {
    "base": "small-cnn",
    "input_size": 64,
    "width": 24,
    "aligned": True,
    "loss": "triplet",
    "miner": "batch-hard",
    "soft": True,
    "margin": 0.0,
    "epochs": 40,
    "people": 8,
    "images": 4,
}


class Tutorial(nn.Module):
    """The network of the tutorial: grey float32 [N, 1, 100, 100] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for few, many in ((1, 4), (4, 8), (8, 8)):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(few, many, 3), nn.ReLU(), nn.BatchNorm2d(many)]
        self.convolutions = nn.Sequential(*layers)
        self.full = nn.Sequential(
            nn.Linear(8 * 100 * 100, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 5)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.full(self.convolutions(x).flatten(1))


def everybody(data: Path, folder: Path) -> Path:
    """Put links to all forty people into one folder."""
    for person in sorted([*(data / "training").iterdir(), *(data / "testing").iterdir()]):
        (folder / person.name).symlink_to(person.resolve())
    return folder


def divide(data: Path, people: list[str], split: str, seed: int) -> tuple[list[str], list[str]]:
    """Return the names to train on and to test on."""
    if split == "37/3":
        tested = sorted(p.name for p in (data / "testing").iterdir())
    else:
        order = np.random.default_rng(seed).permutation(people)
        tested = sorted(order[:10].tolist())
    return [name for name in people if name not in tested], tested


def figures(templates: np.ndarray, names: list[str]) -> dict:
    found = verification(templates, names)
    return {key: value for key, value in found.record().items() if key in SHOWN or key.endswith("_interval")}


SHOWN = ("eer", "tar_at_fmr_1e-2", "rank1", "map_at_r")


def classical(root: Path, cache: Path, trained: list[str], tested: list[str], seed: int) -> dict:
    spec = training_data_spec(CLASSICAL_PX)
    data = training_data.load(root, spec, cache_dir=cache, aligned=True)
    train, test = data.of(trained), data.of(tested)
    torch.manual_seed(seed)
    model = Tutorial()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)
    pairs = samplers.RandomPairs(train.labels, 2 * CLASSICAL_PAIRS, seed=seed)
    grey = torch.from_numpy(train.chips[..., :1].copy()).permute(0, 3, 1, 2).float() / 255
    for epoch in range(CLASSICAL_EPOCHS):
        model.train()
        for batch in pairs.epoch(epoch):
            left, right = np.split(batch, 2)
            d = F.pairwise_distance(model(grey[left]), model(grey[right]))
            differ = torch.from_numpy(train.labels[left] != train.labels[right]).float()
            loss = ((1 - differ) * d.square() + differ * F.relu(2 - d).square()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        x = torch.from_numpy(test.chips[..., :1].copy()).permute(0, 3, 1, 2).float() / 255
        raw = model(x)
    # The similarity 1 - |a - b|^2 / 2 of scaled rows ranks as the distance does; a further coordinate makes
    # them unit rows without changing it by much.
    scaled = raw / raw.norm(dim=1).max() * 0.05
    lifted = torch.cat([scaled, (1 - scaled.square().sum(1, keepdim=True)).sqrt()], 1).double()
    return {
        "cosine": figures(unit(raw).numpy(), test.names),
        "euclidean": figures(lifted.numpy().astype(np.float32), test.names),
    }


def training_data_spec(size: int):
    from dataclasses import replace

    return replace(base_spec("small-cnn"), input_size=size)


def ours(root: Path, cache: Path, trained: list[str], tested: list[str], seed: int, **options) -> dict:
    with tempfile.TemporaryDirectory() as out:
        config = TrainConfig(
            data=root, out=Path(out) / "run", subjects=tuple(trained), seed=seed, **(OURS | options)
        )
        result = fit(config, cache_dir=cache)
        test = training_data.load(root, checkpoint.read_spec(result.best), cache_dir=cache, aligned=True).of(
            tested
        )
        found = {}
        for name in ("best", "last"):
            spec = checkpoint.read_spec(Path(out) / "run" / name)
            found[name] = figures(embed(checkpoint.load(spec), spec, test.chips), test.names)
        return found | {"epoch": result.best_epoch}


def embed(module: nn.Module, spec, chips: np.ndarray) -> np.ndarray:
    from facecli.training.learner import normalised

    with torch.no_grad():
        x = normalised(torch.from_numpy(chips.copy()).permute(0, 3, 1, 2).float(), spec)
        raw = module(x) + (module(x.flip(3)) if spec.mirror else 0)
        return unit(raw).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", nargs="+", default=["classical", "ours"])
    parser.add_argument("--split", nargs="+", default=["37/3", "30/10"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], help="name=value of ours")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    changed = settings(options.set)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        (Path(folder) / "people").mkdir()
        root = everybody(options.data, Path(folder) / "people")
        people = sorted(p.name for p in root.iterdir())
        for split in options.split:
            for seed in range(options.seeds):
                trained, tested = divide(options.data, people, split, seed)
                for recipe in options.recipe:
                    start = time.perf_counter()
                    run = classical if recipe == "classical" else lambda *a: ours(*a, **changed)
                    found = run(root, cache, trained, tested, seed)
                    row = {"split": split, "seed": seed, "recipe": recipe, **found}
                    row["seconds"] = time.perf_counter() - start
                    rows.append(row)
                    for kind in ("cosine", "euclidean", "best", "last"):
                        if kind in row:
                            shown = "  ".join(
                                f"{k} {row[kind][k]:.3f}" if row[kind][k] is not None else f"{k} -"
                                for k in SHOWN
                            )
                            print(
                                f"{split} seed {seed} {recipe} {kind:9s} {shown}  {row['seconds']:.0f} s",
                                flush=True,
                            )
    for split in options.split:
        for recipe in options.recipe:
            mine = [r for r in rows if r["split"] == split and r["recipe"] == recipe]
            for kind in [k for k in ("cosine", "euclidean", "best", "last") if k in mine[0]]:
                means = {
                    k: np.mean([r[kind][k] for r in mine]) for k in SHOWN if mine[0][kind][k] is not None
                }
                print(f"mean {split} {recipe} {kind}:", "  ".join(f"{k} {v:.3f}" for k, v in means.items()))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
