"""The default network at lower precision: how much faster, and how accurate on LFW's development view.

    python benchmarks/precision.py DIR [--photos N] [--json FILE]

DIR is as in `lfw_view1.py`. Each form of the network sees the same chips of both lists (--faces center), original and
mirrored. Time: CPU ms a view in batches of 16, one thread, the forms in turn. Accuracy: the 1,000 test pairs at the
threshold that is best on the training pairs, and TAR at FMR 1e-3 over all comparisons of the test images. int8 is
ONNX Runtime's static quantisation (a scale a channel for the weights, ranges of the activations from 192 chips of
the training list); OpenVINO is left out where it is not installed. --photos: only so many pairs of each list.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from facecli.arrays import Array
from facecli.config import DEFAULT_MODEL, default_cache_dir
from facecli.errors import FaceError
from facecli.models import runtime
from facecli.models.network import Runner
from facecli.models.registry import load_network, resolve
from facecli.templates.embedder import Embedder, prepare

SPEC = resolve(DEFAULT_MODEL)
BATCH, RANGES, ROUNDS, FMR = 16, 192, 9, 1e-3
Pairs = list[tuple[str, str, bool]]


class Chips(Embedder):
    """Keeps the chips that it is given, in place of embedding them."""

    def templates(self, chips: np.ndarray) -> Array:
        self.kept = chips
        return np.zeros((len(chips), self.dim), np.float32)


class Ranges(CalibrationDataReader):
    """Hands chips to the quantisation, batch by batch."""

    def __init__(self, chips: np.ndarray) -> None:
        self._batches: Iterator[dict[str, Array]] = iter([{"chip": batch} for batch in batches(chips)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, help="only so many pairs of each list")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    train, test = (
        read_pairs(arguments.folder / f"pairs_{part}.csv", arguments.photos) for part in ("train", "test")
    )
    names = sorted({name for a, b, _ in train + test for name in (a, b)})
    chips = make_chips([arguments.folder / name for name in names])
    row = {name: k for k, name in enumerate(names) if chips[k].any()}
    seen = sorted({row[name] for a, b, _ in train for name in (a, b) if name in row})
    chosen = np.random.default_rng(0).choice(seen, min(RANGES, len(seen)), replace=False)
    forms = make_forms(chips[np.sort(chosen)])
    ms = clock(forms, next(batches(chips)))
    found = {}
    print(f"{'':<16} {'ms a view':>9} {'right of test pairs':>20} {'TAR at 1e-3':>12} {'least cosine':>13}")
    exact: Array | None = None
    for name, run in forms.items():
        rows = templates(run, chips)
        exact = rows if exact is None else exact
        same = float(np.sum(rows * exact, axis=1)[list(row.values())].min())
        right, tar = accuracy(rows, row, train, test)
        found[name] = {"ms": ms[name], "accuracy": right, "tar": tar, "least_cosine": same}
        print(f"{name:<16} {median(ms[name]):>9.2f} {right:>20.1%} {tar:>12.1%} {same:>13.5f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found) + "\n")


def read_pairs(path: Path, count: int | None) -> Pairs:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["left"], row["right"], row["mated"] == "1") for row in csv.DictReader(file)]
    step = max(1, len(rows) // count) if count is not None else 1
    return rows[::step][:count]


def make_chips(photos: list[Path]) -> np.ndarray:
    """Return uint8 [N, S, S, 3]; black where no face is found."""
    embedder = Chips(DEFAULT_MODEL, cache_dir=default_cache_dir(), faces="center", workers=1)
    chips = np.zeros((len(photos), SPEC.input_size, SPEC.input_size, 3), np.uint8)
    for k, photo in enumerate(photos):
        (result,) = embedder.embed([(photo, None)])
        if not isinstance(result, FaceError):
            chips[k] = embedder.kept[0]
    return chips


def make_forms(ranges: np.ndarray) -> dict[str, Runner]:
    network = load_network(SPEC, cache_dir=default_cache_dir())
    path = runtime.export(network, cache_dir=default_cache_dir())
    forms = {"float32": runtime.load(network, cache_dir=default_cache_dir())}
    with tempfile.TemporaryDirectory() as scratch:
        plain, small = Path(scratch) / "plain.onnx", Path(scratch) / "int8.onnx"
        quant_pre_process(str(path), str(plain))
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(str(plain), str(small), Ranges(ranges), per_channel=True, **types)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(small.read_bytes(), options, providers=["CPUExecutionProvider"])
    forms["int8"] = lambda batch: session.run(None, {"chip": batch})
    try:
        import openvino
    except ImportError:
        print("openvino is not installed: left out")
        return forms
    core = openvino.Core()
    for precision in ("f32", "bf16"):
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
        request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
        forms[f"OpenVINO {precision}"] = lambda batch, request=request: [
            np.array(request.infer({0: batch})[0])
        ]
    return forms


def batches(chips: np.ndarray) -> Iterator[Array]:
    for start in range(0, len(chips), BATCH):
        yield prepare(chips[start : start + BATCH], SPEC)


def clock(forms: dict[str, Runner], batch: Array) -> dict[str, list[float]]:
    """Return CPU ms a view of each form, round by round; threads of their own count."""
    ms: dict[str, list[float]] = {name: [] for name in forms}
    for round_ in range(ROUNDS + 1):
        for name, run in forms.items():
            start = time.process_time()
            run(batch)
            if round_ > 0:
                ms[name].append(1e3 * (time.process_time() - start) / len(batch))
    return ms


def templates(run: Runner, chips: np.ndarray) -> Array:
    rows = []
    for batch in batches(chips):
        rows.append(run(batch)[0] + run(np.ascontiguousarray(batch[..., ::-1]))[0])
    raw = np.concatenate(rows)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def accuracy(rows: Array, row: dict[str, int], train: Pairs, test: Pairs) -> tuple[float, float]:
    """Return the share of test pairs that are right, and TAR at `FMR` over all comparisons of the test images."""

    def scored(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        known = np.array([a in row and b in row for a, b, _ in pairs])
        similarity = np.full(len(pairs), -1.0)
        index = np.array([(row[a], row[b]) for a, b, _ in pairs if a in row and b in row])
        similarity[known] = np.sum(rows[index[:, 0]] * rows[index[:, 1]], axis=1)
        return similarity, np.array([mated for _, _, mated in pairs])

    similarity, mated = scored(train)
    thresholds = np.unique(similarity)
    best = max(thresholds, key=lambda t: ((similarity >= t) == mated).mean())
    similarity, mated = scored(test)
    right = float(((similarity >= best) == mated).mean())
    names = sorted({name for a, b, _ in test for name in (a, b) if name in row})
    chosen = rows[[row[name] for name in names]]
    people = np.array([name.split("/")[0] for name in names])
    upper = np.triu_indices(len(names), 1)
    scores, same = (chosen @ chosen.T)[upper], (people[:, None] == people)[upper]
    threshold = np.sort(scores[~same])[::-1][int(FMR * (~same).sum())]
    return right, float((scores[same] > threshold).mean())


if __name__ == "__main__":
    main()
