"""Fine-tuning the default network on many people with few images each: is it better than its base?

    python benchmarks/train_finetune.py DATA [--out DIR] [--cache DIR] [--set name=value ...] [--resume]

DATA holds `people_train` and `celeba_small` (to train and, a tenth of their people, to choose the epoch and the
share of the way from the base), `people_val`, and `lfw_view1` with its `pairs_test.csv`. The result is compared
with its base on people_val and on all cross pairs of the images of pairs_test, which choose nothing: TAR at FMR
1e-3 and 1e-4, the difference with its paired bootstrap interval over people. One thread.

CelebA names nobody, so people of LFW may be among those trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facecli import training_data
from facecli.alarms import Alarm
from facecli.learner import normalised
from facecli.models import architectures, checkpoint
from facecli.pairs import images, read_pairs
from facecli.pairwise import unit
from facecli.train import fit
from facecli.train_config import TrainConfig
from facecli.train_events import Began, EpochDone, Step
from facecli.validation import tar_gain, verification

MIN_FACE_PX = 20
"""The crops of both training sets are small."""


def together(data: Path, sources: list[str], folder: Path) -> Path:
    """Link the people of the training sets into one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        for person in sorted((data / source).iterdir()):
            link = folder / f"{source}-{person.name}"
            if person.is_dir() and not link.is_symlink():
                link.symlink_to(person.resolve())
    return folder


def listed(data: Path, folder: Path, csv: str) -> Path:
    """Link the images that a list of LFW's pairs names into one folder."""
    for path in images(read_pairs(data / "lfw_view1" / csv)):
        link = folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((data / "lfw_view1" / path).resolve())
    return folder


def test_sets(data: Path, spec, cache: Path, folder: Path) -> dict[str, training_data.TrainingSet]:
    def load(path: Path, faces: str) -> training_data.TrainingSet:
        return training_data.load(path, spec, cache_dir=cache, min_face_px=MIN_FACE_PX, faces=faces)

    # LFW's subject stands in the centre, and larger faces may stand beside.
    return {
        "people_val": load(data / "people_val", "largest"),
        "lfw_view1 pairs_test": load(listed(data, folder, "pairs_test.csv"), "center"),
    }


def embed(module, spec, chips) -> np.ndarray:
    module.eval()
    rows = []
    with torch.no_grad():
        for start in range(0, len(chips), 64):
            x = torch.from_numpy(chips[start : start + 64].copy()).permute(0, 3, 1, 2).float()
            x = normalised(x, spec)
            raw = module(x) + (module(x.flip(3)) if spec.mirror else 0)
            rows.append(unit(raw).numpy())
    return np.concatenate(rows)


def tell(event) -> None:
    if isinstance(event, EpochDone):
        r = event.record
        print(
            json.dumps({k: v for k, v in r.items() if not k.endswith("_interval") and k != "alarms"}),
            flush=True,
        )
    elif isinstance(event, Began | Alarm):
        print(event, flush=True)
    elif isinstance(event, Step) and event.step % 50 == 0:
        print(f"  {event.step}/{event.steps} {event.images_per_second:.0f} images/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("run-finetune"))
    parser.add_argument("--cache", type=Path, default=Path("run-cache"))
    parser.add_argument("--train", nargs="+", default=["people_train", "celeba_small"])
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    changed = {}
    for item in options.set:
        name, value = item.split("=", 1)
        try:
            changed[name] = json.loads(value)
        except ValueError:
            changed[name] = value
    if "blend" in changed:
        changed["blend"] = tuple(changed["blend"])

    def aside(ending: str) -> Path:
        return options.out.with_name(options.out.name + ending)

    config = TrainConfig(
        data=together(options.data, options.train, aside("-people")),
        out=options.out,
        min_face_px=MIN_FACE_PX,
        val_share=0.1,
        loss="arcface",
        epochs=2,
        people=32,
        images=1,
        blend=(0.25, 0.5, 0.75),
    )
    start = time.perf_counter()
    result = fit(replace(config, **changed), cache_dir=options.cache, resume=options.resume, report=tell)
    print(
        f"trained in {time.perf_counter() - start:.0f} s; best epoch {result.best_epoch}, share {result.best_share}"
    )
    print(f"on the validation people: TAR at FMR {result.gain_fmr:g} {result.gain}")
    spec = checkpoint.read_spec(result.best)
    base = architectures.pretrained({"base": "dlib"}, cache_dir=options.cache)
    for name, data in test_sets(options.data, spec, options.cache, aside("-lfw")).items():
        before, after = (embed(module, spec, data.chips) for module in (base, checkpoint.load(spec)))
        scores = [verification(t, data.names) for t in (before, after)]
        print(
            f"{name}: {len(data)} images of {len(data.subjects)} people, EER {scores[0].eer.value:.4f} -> {scores[1].eer.value:.4f}"
        )
        for fmr in (1e-3, 1e-4):
            both = [s.tar[fmr] for s in scores]
            if both[0] is None or both[1] is None:
                continue
            gain = tar_gain(before, after, data.names, fmr)
            print(
                f"  TAR at FMR {fmr:g}: {both[0].value:.4f} -> {both[1].value:.4f}, difference {gain.value:+.4f}"
                f" ({gain.low:+.4f} to {gain.high:+.4f})"
            )


if __name__ == "__main__":
    main()
