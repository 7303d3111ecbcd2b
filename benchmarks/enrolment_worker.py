"""One contestant of `enrolment.py`, in a process and perhaps an environment of its own.

    python enrolment_worker.py facecli|facenet-pytorch|face_recognition THREADS FOLDER

Reads folders (NAME/photo.jpg below each) from stdin, a line each; enrols what is in them and answers with a line of
JSON: wall and CPU seconds, the most memory of this process alone, and a template a photo, or null where no face was
found. FOLDER is where facecli keeps its networks.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Enrol = Callable[[Path], "list[np.ndarray | None]"]


def main() -> None:
    name, threads, cache = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    answers, sys.stdout = sys.stdout, sys.stderr
    enrol = CONTESTANTS[name](threads, cache)
    for line in sys.stdin:
        folder = Path(line.rstrip("\n"))
        # What facecli keeps beside the photos would spare the next contestant the work.
        shutil.rmtree(folder / ".facecli", ignore_errors=True)
        wall, cpu = time.perf_counter(), cpu_seconds()
        found = enrol(folder)
        row = {
            "wall": time.perf_counter() - wall,
            "cpu": cpu_seconds() - cpu,
            "peak_mb": peak_mb(),
            "templates": [None if row is None else np.asarray(row, float).round(6).tolist() for row in found],
        }
        print(json.dumps(row), file=answers, flush=True)


def photos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.jpg"))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the processes that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_mb() -> float:
    """Return the most memory that this process has had; `getrusage` would tell that of the one that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def facecli(threads: int, cache: Path) -> Enrol:
    """A refresh of the database: reading and hashing, and templates safe on the disk, are part of it."""
    from facecli.gallery.refresh import refresh
    from facecli.templates.embedder import Embedder

    embedder = Embedder(cache_dir=cache, workers=threads)

    def enrol(folder: Path) -> list[np.ndarray | None]:
        gallery, _ = refresh(folder, embedder, cache_dir=cache)
        rows = {f"{sample.subject}/{Path(sample.path).name}": sample.row for sample in gallery.samples}
        names = [f"{path.parent.name}/{path.name}" for path in photos(folder)]
        return [gallery.templates[rows[name]] if name in rows else None for name in names]

    return enrol


def facenet_pytorch(threads: int, cache: Path) -> Enrol:
    """MTCNN with its defaults; the five landmarks and the network of facecli's default model, in eager torch."""
    import torch
    from facenet_pytorch import MTCNN
    from PIL import Image

    from facecli.faces import align
    from facecli.models.registry import load_network, resolve
    from facecli.templates.embedder import prepare

    torch.set_num_threads(threads)
    spec = resolve("dlib")
    network = load_network(spec, cache_dir=cache).torch().eval()
    detector = MTCNN()

    def template(path: Path) -> np.ndarray | None:
        image = Image.open(path).convert("RGB")
        boxes, _, points = detector.detect(image, landmarks=True)
        if boxes is None:
            return None
        # Largest first is MTCNN's default order.
        chip = align.chip(np.asarray(image), align.similarity(points[0], spec.template), spec.input_size)
        view = torch.from_numpy(prepare(chip[None], spec))
        with torch.inference_mode():
            raw = (network(view) + network(view.flip(3)))[0].numpy()
        return raw / np.linalg.norm(raw)

    return lambda folder: [template(path) for path in photos(folder)]


def face_recognition(threads: int, cache: Path) -> Enrol:
    """Its three functions with their defaults (HOG, one doubling), the largest face; a process a thread."""
    if threads == 1:
        return lambda folder: [_face_recognition_template(path) for path in photos(folder)]

    def enrol(folder: Path) -> list[np.ndarray | None]:
        # Its own command line starts processes too, for each run.
        with multiprocessing.get_context("fork").Pool(threads) as pool:
            found = pool.map(_face_recognition_template, photos(folder), chunksize=1)
            pool.close()
            pool.join()
        return found

    _face_recognition_template(None)
    return enrol


def _face_recognition_template(path: Path | None) -> np.ndarray | None:
    import face_recognition as peer

    if path is None:
        return None
    image = peer.load_image_file(path)
    boxes = peer.face_locations(image)
    if not boxes:
        return None
    largest = max(boxes, key=lambda box: (box[2] - box[0]) * (box[1] - box[3]))
    return peer.face_encodings(image, [largest])[0]


CONTESTANTS = {
    "facecli": facecli,
    "facenet-pytorch": facenet_pytorch,
    "face_recognition": face_recognition,
}

if __name__ == "__main__":
    main()
