"""Error-versus-discard curves of quality (ISO/IEC 29794-1): what is missed when the worst photos are set aside.

    python benchmarks/quality_curves.py DIR

DIR is as for everyday.py. Each spoiled photo is compared with the clean one of the same person; the photos that a measure
calls worst are set aside, and the curve is the share of misses among the others. A measure is good whose curve falls fast:
"ideal" sets aside the misses first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from everyday import faces_of

from facecli.calibration.decision import make_rule
from facecli.config import default_cache_dir, default_user_dir
from facecli.templates.embedder import Embedder
from facecli.templates.template import FaceTemplate

DISCARDED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    embedder = Embedder(cache_dir=default_cache_dir(), min_quality=0)
    threshold = make_rule(embedder.id, user_dir=default_user_dir()).threshold
    clean = faces_of(embedder, folder / "clean")
    missed, measures = [], []
    for kind in sorted(place for place in folder.iterdir() if place.name != "clean"):
        for name, face in faces_of(embedder, kind).items():
            other = clean[name]
            if (
                not isinstance(face, FaceTemplate)
                or not isinstance(other, FaceTemplate)
                or face.quality is None
            ):
                continue
            strictness = min(face.strictness, other.strictness)
            missed.append(float(face.embedding @ other.embedding) - strictness < threshold)
            shown = face.quality.appearance
            measures.append(
                {
                    "quality": face.quality.score,
                    "length of the raw output": face.quality.length,
                    "strictness": -face.strictness,
                    "softness": -shown.softness,
                    "covered": -shown.covered,
                    "noise": -shown.noise,
                    "blockiness": -shown.blockiness,
                    "narrowness": -shown.narrowness,
                    "eyes_px": shown.eyes_px,
                    "light": shown.light,
                    "the detector's probability": face.face.probability,
                }
            )
    wrong = np.array(missed)
    print(f"{len(wrong):,} photos with a face, {wrong.mean():.1%} of them missed\n")
    print("| set aside by | " + " | ".join(f"{share:.0%}" for share in DISCARDED) + " |")
    print("|---|" + "---|" * len(DISCARDED))
    for name in measures[0]:
        row(name, wrong, np.array([measure[name] for measure in measures], float))
    row("ideal", wrong, -wrong.astype(float))


def row(name: str, wrong: np.ndarray, measure: np.ndarray) -> None:
    order = np.argsort(measure, kind="stable")
    kept = (wrong[order[int(share * len(order)) :]].mean() for share in DISCARDED)
    print(f"| {name} | " + " | ".join(f"{rate:.2%}" for rate in kept) + " |")


if __name__ == "__main__":
    main()
