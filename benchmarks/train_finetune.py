"""Fine-tuning the default network on two sets of small photos: is it better than its base?

    python benchmarks/train_finetune.py DATA [--out DIR] [--cache DIR] [--set name=value ...] [--resume]
        [--quick] [--json FILE]

DATA holds `people_train` (60 people with 80 images each) and `celeba_small` (2,854 with 2 or 3), to train on;
`lfw_view1` with `pairs_train.csv`, whose images choose between the base, the trained weights and those half way;
and to compare the result with its base `people_val` and the images of `pairs_test.csv`, which choose nothing: TAR
at FMR 1e-3 and 1e-4 over all cross pairs, the difference with its paired bootstrap interval over people. One
thread. `--quick` takes a tenth of the people, to see that it runs.

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
from train_settings import settings

from facecli.models import checkpoint
from facecli.training import data as training_data
from facecli.training.alarms import Alarm
from facecli.training.config import TrainConfig
from facecli.training.events import Began, EpochDone, Step
from facecli.training.fit import fit
from facecli.training.learner import normalised
from facecli.training.losses.geometry import unit
from facecli.training.start import pretrained
from facecli.training.validation import tar_gain, verification
from facecli.trials.pairs import images, read_pairs

MIN_FACE_PX = 20
"""The crops of both training sets are small."""
FACES = "center"
"""LFW's subject stands in the centre, and larger faces may stand beside."""


def some(source: Path, folder: Path) -> Path:
    """Link every tenth person of a training set into one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for person in sorted(path for path in source.iterdir() if path.is_dir())[::10]:
        link = folder / person.name
        if not link.is_symlink():
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

    return {
        "people_val": load(data / "people_val", "largest"),
        "lfw_view1 pairs_test": load(listed(data, folder, "pairs_test.csv"), FACES),
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
    elif isinstance(event, Began):
        print(
            f"{event.images} images of {event.people} people ({len(event.failures)} without a face),"
            f" {event.trainable:,} of {event.parameters:,} parameters learn",
            flush=True,
        )
    elif isinstance(event, Alarm):
        print(event.text, flush=True)
    elif isinstance(event, Step) and event.step % 50 == 0:
        print(f"  {event.step}/{event.steps} {event.images_per_second:.0f} images/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("run-finetune"))
    parser.add_argument("--cache", type=Path, default=Path("run-cache"))
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    changed = settings(options.set)
    if "blend" in changed:
        changed["blend"] = tuple(changed["blend"])

    def aside(ending: str) -> Path:
        return options.out.with_name(options.out.name + ending)

    sources = [options.data / name for name in ("celeba_small", "people_train")]
    if options.quick:
        sources = [some(source, aside("-quick") / source.name) for source in sources]
    config = TrainConfig(
        data=sources[0],
        also=tuple(sources[1:]),
        val=listed(options.data, aside("-val"), "pairs_train.csv"),
        out=options.out,
        min_face_px=MIN_FACE_PX,
        faces=FACES,
        loss="memory",
        freeze="7-last-blocks",
        epochs=1,
        precision="bfloat16",
    )
    start = time.perf_counter()
    result = fit(replace(config, **changed), cache_dir=options.cache, resume=options.resume, report=tell)
    seconds = time.perf_counter() - start
    print(f"trained in {seconds:.0f} s; best epoch {result.best_epoch}, share {result.best_share}")
    print(f"on the validation people: TAR at FMR {result.gain_fmr:g} {result.gain}")
    spec = checkpoint.read_spec(result.best)
    base = pretrained({"base": "dlib"}, cache_dir=options.cache)
    rows = []
    print(
        "\n| images, people | FMR | TAR of the base | fine-tuned | difference (95 %) |\n|---|---|---|---|---|"
    )
    for name, data in test_sets(options.data, spec, options.cache, aside("-test")).items():
        before, after = (embed(module, spec, data.chips) for module in (base, checkpoint.load(spec)))
        scores = [verification(t, data.names) for t in (before, after)]
        for fmr in (1e-3, 1e-4):
            both = [s.tar[fmr] for s in scores]
            if both[0] is None or both[1] is None:
                continue
            gain = tar_gain(before, after, data.names, fmr)
            rows.append([name, fmr, both[0].value, both[1].value, gain.value, gain.low, gain.high])
            print(
                f"| {name}: {len(data):,}, {len(data.subjects)} | {fmr:g} | {both[0].value:.4f} | {both[1].value:.4f}"
                f" | {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}) |",
                flush=True,
            )
    if options.json is not None:
        record = {"seconds": seconds, "epochs": result.history, "tar": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
