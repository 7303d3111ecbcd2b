"""The face detector against facenet-pytorch's MTCNN: what it finds, and how long it takes.

    python benchmarks/detection.py FOLDER_OF_PHOTOS [--photos N] [--large 40] [--json FILE]

Agreement: of the faces of 40 px or more that facenet-pytorch's MTCNN (its defaults) finds, how many are found at
IoU 0.7 or more, how far the landmarks lie in shares of the eye distance, and every miss by name. Time: medians
over the same photos enlarged to a longer side of 640, 1,280 and 2,500 px, JPEG bytes in, faces out, one thread,
the contestants in turn on each photo, so that the ratios hold on a noisy machine.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image as PillowImage

from facecli.config import default_cache_dir
from facecli.faces.face import Face
from facecli.faces.mtcnn import Mtcnn
from facecli.models import mtcnn_networks, runtime
from facecli.photos.decode import decode
from facecli.photos.find import find_images, read
from facecli.photos.source import decoder

SIDES = (640, 1280, 2500)
CONTESTANTS = ("facenet-pytorch", "all", "largest")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, help="only so many photos")
    parser.add_argument("--large", type=int, default=40, help="photos that are enlarged and timed")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    photos = list(find_images([arguments.folder]))[: arguments.photos]
    theirs = MTCNN(keep_all=True)
    runners = [
        runtime.load(mtcnn_networks.network(stage), cache_dir=default_cache_dir())
        for stage in mtcnn_networks.STAGES
    ]
    ours = Mtcnn(runners)
    found = agreement(photos, theirs, ours, arguments.folder)
    timed = times(photos[:: max(1, len(photos) // arguments.large)][: arguments.large], theirs, ours)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({**found, "ms": timed}) + "\n")


def agreement(photos: list[Path], theirs: MTCNN, ours: Mtcnn, root: Path) -> dict[str, Any]:
    total, offsets, misses = 0, [], []
    for photo in photos:
        image = decode(read(photo), path=photo)
        boxes, probabilities, points = theirs.detect(PillowImage.fromarray(image.pixels), landmarks=True)
        found = ours.all_faces(image)
        for box, probability, landmarks in zip(
            *(v if v is not None else () for v in (boxes, probabilities, points)), strict=True
        ):
            box, landmarks = np.array(box, float), np.array(landmarks, float)
            if min(box[2] - box[0], box[3] - box[1]) < 40:
                continue
            total += 1
            best = max(found, key=lambda face: overlap(face, box), default=None)
            shared = 0.0 if best is None else overlap(best, box)
            if best is None or shared < 0.7:
                misses.append(
                    f"{photo.relative_to(root)} box {box.round().astype(int).tolist()} probability {probability:.3f}, best IoU {shared:.2f}"
                )
                continue
            eyes = np.linalg.norm(landmarks[0] - landmarks[1])
            offsets.append(np.linalg.norm(np.array(best.landmarks) - landmarks, axis=1) / eyes)
    print(
        f"{len(photos)} photos: {total - len(misses)} of {total} faces of 40 px or more found ({1 - len(misses) / total:.2%})"
    )
    print(
        f"landmarks off by {np.median(offsets):.2%} of the eye distance in the median, 95 % within {np.percentile(offsets, 95):.1%}"
    )
    for miss in misses:
        print("  missed:", miss)
    apart = [np.asarray(values).tolist() for values in offsets]
    return {"faces": total, "missed": misses, "landmarks_off_in_eye_distances": apart}


def times(photos: list[Path], theirs: MTCNN, ours: Mtcnn) -> dict[str, Any]:
    samples = {}
    print("ms a photo (median over photos of the best of 3), JPEG bytes to faces, one thread")
    print(
        f"{'px':>6} {'facenet-pytorch':>16} {'ours, all':>10} {'ours, largest':>14} {'ratio all':>10} {'ratio largest':>14}"
    )
    for side in SIDES:
        rows = []
        for photo in photos:
            picture = PillowImage.open(photo).convert("RGB")
            scale = side / max(picture.size)
            buffer = io.BytesIO()
            picture.resize([round(n * scale) for n in picture.size], PillowImage.Resampling.BICUBIC).save(
                buffer, "JPEG", quality=90
            )
            data = buffer.getvalue()
            enlarged = decoder((Path("enlarged.jpg"), data))
            contestants = (
                lambda data=data: theirs.detect(PillowImage.open(io.BytesIO(data)).convert("RGB")),
                lambda enlarged=enlarged: ours.all_faces(enlarged(None)),
                lambda enlarged=enlarged: ours.first_faces(enlarged),
            )
            best = [float("inf")] * len(contestants)
            for _ in range(3):
                for k, contestant in enumerate(contestants):
                    start = time.perf_counter()
                    contestant()
                    best[k] = min(best[k], time.perf_counter() - start)
            rows.append(best)
        table = np.array(rows) * 1e3
        samples[f"{side} px"] = dict(zip(CONTESTANTS, table.T.tolist(), strict=True))
        theirs_ms, all_ms, largest_ms = np.median(table, axis=0)
        ratio_all, ratio_largest = np.median(table[:, :1] / table[:, 1:], axis=0)
        print(
            f"{side:>6} {theirs_ms:>16.1f} {all_ms:>10.1f} {largest_ms:>14.1f} {ratio_all:>10.1f} {ratio_largest:>14.1f}"
        )
    return samples


def overlap(face: Face, box: np.ndarray) -> float:
    left, top = np.maximum(face.box[:2], box[:2])
    right, bottom = np.minimum(face.box[2:], box[2:])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    area = (face.box[2] - face.box[0]) * (face.box[3] - face.box[1])
    return shared / (area + (box[2] - box[0]) * (box[3] - box[1]) - shared)


if __name__ == "__main__":
    main()
