"""Everyday photographs: how often good photos that were spoiled are found, refused, matched rightly and wrongly.

    python benchmarks/everyday.py DIR [--json FILE]

DIR/KIND/PERSON.png is one photo of each person, spoiled in one way; DIR/clean holds them as they were. A kind's FMR is over
all comparisons of its photos of different people that get a decision at the default threshold; its misses are the photos
that their own clean photo is not matched with, for whatever reason: no face, too low a quality, or too little similarity.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from facecli.calibration.decision import make_rule
from facecli.config import default_cache_dir, default_user_dir
from facecli.errors import FaceError
from facecli.templates.embedder import Embedder
from facecli.templates.template import FaceTemplate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    embedder = Embedder(cache_dir=default_cache_dir())
    rule = make_rule(embedder.id, user_dir=default_user_dir())
    print(f"embedder {embedder.id}, {rule.describe()}\n")
    print("| photos | found | turned | refused | FMR of decisions | own without a match | median quality |")
    print("|---|---|---|---|---|---|---|")
    clean = faces_of(embedder, options.folder / "clean")
    rows = []
    for folder in sorted(options.folder.iterdir(), key=lambda place: (place.name != "clean", place.name)):
        faces = faces_of(embedder, folder)
        row = judged(folder.name, faces, clean, rule.threshold)
        rows.append(row)
        print(
            f"| {row['kind']} | {row['found']} of {row['people']} | {row['turned']} | {row['refused']}"
            f" | {100 * row['fmr']:.2f} % of {row['comparisons']:,} | {row['missed']} | {row['quality']:.0f} |",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


def faces_of(embedder: Embedder, folder: Path) -> dict[str, FaceTemplate | FaceError]:
    """Return by person the face of the photo, or why there is none."""
    photos = sorted(folder.glob("*.png"))
    results = embedder.embed((photo, None) for photo in photos)
    return {
        photo.stem: result if isinstance(result, FaceError) else result.faces[0]
        for photo, result in zip(photos, results, strict=True)
    }


def judged(
    kind: str,
    faces: dict[str, FaceTemplate | FaceError],
    clean: dict[str, FaceTemplate | FaceError],
    threshold: float,
) -> dict[str, object]:
    decided = {name: face for name, face in faces.items() if isinstance(face, FaceTemplate)}
    templates = np.stack([face.embedding for face in decided.values()]) if decided else np.empty((0, 1))
    strictness = np.array([face.strictness for face in decided.values()])
    i, j = np.triu_indices(len(decided), 1)
    scores = (templates @ templates.T)[i, j] - np.minimum(strictness[i], strictness[j])
    own = sum(
        float(face.embedding @ other.embedding) - min(face.strictness, other.strictness) >= threshold
        for name, face in decided.items()
        if isinstance(other := clean[name], FaceTemplate)
    )
    refused = sum(isinstance(face, FaceError) and face.code == "low_quality" for face in faces.values())
    return {
        "kind": kind,
        "people": len(faces),
        "found": len(decided) + refused,
        "turned": sum(face.turned != 0 for face in decided.values()),
        "refused": refused,
        "comparisons": int(scores.size),
        "fmr": float((scores >= threshold).mean()) if scores.size else 0.0,
        "missed": len(faces) - own,
        "quality": float(np.median([face.quality.score for face in decided.values() if face.quality]))
        if decided
        else 0.0,
    }


if __name__ == "__main__":
    main()
