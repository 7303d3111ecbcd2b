"""What is installed, where things lie, and whether each model here computes what it should."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli import __version__
from facecli.arrays import Array
from facecli.calibration.files import find_calibration, installed_path
from facecli.cli.advice import in_shell_words
from facecli.config import cores
from facecli.errors import FaceError
from facecli.hooks import Notify
from facecli.models import added
from facecli.models.built_in import BUILT_IN
from facecli.models.families import family
from facecli.models.registry import describe, resolve
from facecli.models.spec import ModelSpec
from facecli.photos.decode import decode
from facecli.photos.find import read
from facecli.templates.channel_order import doubt
from facecli.templates.embedder import Embedder

PACKAGES = (
    "numpy",
    "pillow",
    "onnxruntime",
    "numkong",
    "onnx",
    "torch",
    "torchvision",
    "facenet-pytorch",
    "typer",
    "rich",
)
OPTIONAL = {"pillow-heif": "HEIC photos; pip install 'facecli[heic]'"}

TOLERANCE = 1e-4
"""Largest difference between a template's numbers and the known answer: what two engines may differ by."""

KNOWN_ANSWERS: dict[str, tuple[float, ...]] = {
    "sface": (0.048715, 0.089551, 0.106603, 0.050464, -0.128432, -0.015423, -0.053429, -0.041221),
    "dlib": (-0.057794, 0.100548, 0.046359, -0.031847, -0.065686, -0.032956, -0.056700, 0.010259),
}
"""The first numbers of each model's template of `answer_chip`: another channel order, mean or weights give others."""

COLUMNS = ["check", "state", "detail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state` is `ok`, `info`, `missing` (optional) or `failed`."""

    check: str
    state: str
    detail: str


def examine(
    models: list[str], *, cache_dir: Path, user_dir: Path, notify: Notify | None = None
) -> Iterator[Check]:
    """Yield what is found, model by model; `models` are looked at beside the built-in ones."""
    yield Check(
        "facecli", "info", f"{__version__} on Python {platform.python_version()}, {platform.platform()}"
    )
    for package in PACKAGES:
        yield _package(package, "failed", "pip install --force-reinstall facecli")
    for package, use in OPTIONAL.items():
        yield _package(package, "missing", use)
    yield Check("processor", "info", f"{cores()} cores, ONNX Runtime on each")
    yield _folder("cache folder", cache_dir)
    yield _folder("user folder", user_dir)
    absent = [name for name in BUILT_IN if name not in models and not describe(resolve(name), cache_dir).here]
    for name in [*BUILT_IN, *added.names(user_dir), *models]:
        if name not in absent:
            yield from _model(name, cache_dir, user_dir, notify)
    if absent:
        yield Check("models not here", "missing", f"{', '.join(absent)}: facecli models fetch NAME")


def answer_chip(size: int) -> NDArray[np.uint8]:
    """Return a picture that is different in every channel and direction: uint8 [size, size, 3]."""
    y, x, channel = np.indices((size, size, 3))
    return ((3 * x + 5 * y + 70 * channel + x * y // 16) % 256).astype(np.uint8)


def _package(name: str, absent: str, advice: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, absent, f"not installed: {advice}")


def _folder(name: str, folder: Path) -> Check:
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        return Check(name, "failed", f"{folder} cannot be written")
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    size = sum(path.stat().st_size for path in files)
    return Check(name, "ok", f"{folder} ({len(files)} files, {size / 1e6:.1f} MB)")


def _model(name: str, cache_dir: Path, user_dir: Path, notify: Notify | None) -> Iterator[Check]:
    try:
        spec = resolve(name, user_dir)
        status = describe(spec, cache_dir)
        if not status.here:
            yield Check(f"model {name}", "missing", f"weights not here: {status.weights}")
            return
        embedder = Embedder(name, cache_dir=cache_dir, user_dir=user_dir, notify=notify)
        yield Check(f"model {name}", "ok", f"{status.weights}; embedder {embedder.id}")
        yield Check(f"model {name} answer", *_answer(spec, embedder))
        if not family(spec).trainable and family(spec).known_answer(spec) is None:
            # The contract is somebody's word, which no training and no known answer has confirmed.
            doubted = doubt(embedder)
            looks = "ok" if doubted is None else "failed"
            yield Check(f"model {name} channel order", looks, doubted or "no other order does clearly better")
        calibration = find_calibration(embedder.id, user_dir)
    except FaceError as error:
        yield Check(f"model {name}", "failed", str(in_shell_words(error)))
        return
    if calibration is None:
        yield Check(f"model {name} calibration", "missing", "none: facecli calibrate, or give --threshold")
        return
    path = installed_path(embedder.id, user_dir)
    data = calibration.reported_on if calibration.reported_on is not None else calibration.chosen_on
    where = str(path) if path.exists() else "came with facecli"
    yield Check(f"model {name} calibration", "ok", f"{where}: {data.description}")


def _answer(spec: ModelSpec, embedder: Embedder) -> tuple[str, str]:
    """Return the state and detail of the known-answer check of a model that is here."""
    given = family(spec).known_answer(spec)
    if given is not None:
        picture = decode(read(given.image), path=given.image).pixels
        chip, expected = picture, np.array(given.embedding, np.float32)
        if picture.shape[:2] != (spec.input_size, spec.input_size):
            return "failed", f"{given.image} is not {spec.input_size} x {spec.input_size} px"
    else:
        chip, expected = answer_chip(spec.input_size), np.array(KNOWN_ANSWERS.get(spec.name, ()), np.float32)
    template: Array = embedder.templates(chip[None])[0]
    if not np.isfinite(template).all() or not np.isclose(np.linalg.norm(template), 1, atol=1e-5):
        return "failed", "the template is not a unit vector of finite numbers"
    if not expected.size:
        return "info", "no known answer is recorded; the template is a finite unit vector"
    off = float(np.abs(template[: expected.size] - expected).max())
    if off > TOLERANCE:
        return (
            "failed",
            f"differs from the known answer by {off:.2g}: weights or input contract are not as they were",
        )
    return "ok", f"known answer met to {off:.1g}"
