"""The recipe that fails, and whether training says why: head only, random triplets, margin 0.1, 15 people.

    python benchmarks/train_failing.py DATA [--cache DIR] [--only NAME ...]

DATA holds `people_val` (15 people, to train on) and `people_train` (60 others: 20 to validate on, 40 to test on,
15 images each). Rows: the recipe on dlib's own head, on a new head on dlib, and on the head of an
InceptionResnetV1 without pretrained weights; beside them what `facecli train` does by default on the same 15
people. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from train_finetune import MIN_FACE_PX, embed

from facecli.models import checkpoint
from facecli.training import data as training_data
from facecli.training.alarms import Alarm
from facecli.training.config import TrainConfig
from facecli.training.events import Began, EpochDone
from facecli.training.fit import fit
from facecli.training.start import pretrained
from facecli.training.validation import tar_gain, verification

FAILING = {
    "loss": "triplet",
    "miner": "random-triplets",
    "margin": 0.1,
    "freeze": "all-but-head",
    "augmentation": "none",
    "pull": 0.0,
    "blend": (),
    "lr": 1e-3,
    "people": 16,
    "images": 3,
}
ROWS = {
    "failing recipe, dlib's own head": FAILING | {"epochs": 10},
    "failing recipe, new head on dlib": FAILING | {"dim": 128, "epochs": 10},
    "failing recipe, InceptionResnetV1 without pretrained weights": FAILING
    | {"base": "vggface2", "pretrained": False, "epochs": 4},
    "recommended: the defaults, from dlib": {"epochs": 6},
}
IMAGES = 15


def some(source: Path, target: Path, chosen: slice) -> Path:
    """Link the first images of some of the people."""
    for person in sorted(p for p in source.iterdir() if p.is_dir())[chosen]:
        (target / person.name).mkdir(parents=True)
        for image in sorted(person.iterdir())[:IMAGES]:
            (target / person.name / image.name).symlink_to(image.resolve())
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("run-cache"))
    parser.add_argument("--only", nargs="+", default=list(ROWS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        val = some(options.data / "people_train", Path(folder) / "val", slice(0, 20))
        tested = some(options.data / "people_train", Path(folder) / "test", slice(20, 60))
        for name in options.only:
            print(f"== {name}")

            def tell(event) -> None:
                if isinstance(event, Began):
                    print(
                        f"   {event.trainable:,} of {event.parameters:,} parameters learn, {event.people} people"
                    )
                elif isinstance(event, Alarm):
                    print(f"   ALARM {event.text}")
                elif isinstance(event, EpochDone):
                    r = event.record
                    loss = "      -" if r["loss"] is None else f"{r['loss']:7.4f}"
                    active = "" if r["loss"] is None else f"  active {r['active_fraction']:.3f}"
                    print(
                        f"   epoch {r['epoch']:2d}  loss {loss}  EER {r['eer']:.3f}"
                        f"  TAR@1e-2 {r['tar_at_fmr_1e-2']:.3f}  rank-1 {r['rank1']:.3f}{active}",
                        flush=True,
                    )

            config = TrainConfig(
                data=options.data / "people_val",
                out=Path(folder) / f"run{len(list(Path(folder).iterdir()))}",
                val=val,
                min_face_px=MIN_FACE_PX,
                **ROWS[name],
            )
            result = fit(config, cache_dir=options.cache, report=tell)
            spec = checkpoint.read_spec(result.best)
            data = training_data.load(tested, spec, cache_dir=options.cache, min_face_px=MIN_FACE_PX)
            before = None
            if config.base == "dlib" and config.dim is None:
                base = pretrained({"base": "dlib"}, cache_dir=options.cache)
                before = embed(base, spec, data.chips)
                _show("before training", before, data.names)
            for kind in ("best", "last"):
                after = embed(checkpoint.load(checkpoint.read_spec(config.out / kind)), spec, data.chips)
                _show(
                    f"{kind} (epoch {result.best_epoch if kind == 'best' else config.epochs})",
                    after,
                    data.names,
                )
                if before is not None:
                    gain = tar_gain(before, after, data.names, 1e-3)
                    print(f"      TAR at FMR 1e-3 {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")


def _show(what: str, templates: np.ndarray, names: list[str]) -> None:
    found = verification(templates, names)
    tar = {fmr: f"{m.value:.3f}" if m is not None else "-" for fmr, m in found.tar.items()}
    best = (1 - found.eer.value) * 100
    print(
        f"   on {found.people} other people, {what}: EER {found.eer.value:.3f} ({best:.1f} % right there),"
        f" TAR@1e-2 {tar[1e-2]}, TAR@1e-3 {tar[1e-3]}, rank-1 {found.rank1.value:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
