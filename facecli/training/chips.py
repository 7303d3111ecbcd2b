"""The chips of photos for training: each cut once, and kept in the cache folder for the runs to come."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from facecli.arrays import Pixels
from facecli.errors import BadInput, FaceError, NoFace, UnreadableImage
from facecli.faces.choice import Choice
from facecli.faces.crop import cut
from facecli.faces.detector import DEFAULT_DETECTOR, detector_class
from facecli.files import json_text
from facecli.files.atomic import write_atomic
from facecli.models import runtime
from facecli.models.spec import ModelSpec
from facecli.photos.find import digest, read
from facecli.photos.source import decoder
from facecli.templates.embedder import PIPELINE


class ChipCache:
    """Gives the chip of one face of a photo, cut once and kept under the digest of the photo's bytes."""

    def __init__(
        self, spec: ModelSpec, cache_dir: Path, aligned: bool, min_face_px: int, choice: Choice
    ) -> None:
        # Photos as they are, as the checkpoint will take them: what the base's lengths told is lost in training.
        self.spec = replace(spec, upright_length=None)
        self.choice = choice
        kind = detector_class(DEFAULT_DETECTOR)
        what = {
            "pipeline": PIPELINE,
            "input_size": spec.input_size,
            "template": None if aligned else spec.template,
            "crop_margin": None if aligned else spec.crop_margin,
            "detector": None if aligned else kind.identity.weights,
            "search": None if aligned else {**kind.identity.search, "min_face_px": min_face_px},
            "faces": None if aligned else choice.policy,
        }
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        self.folder = cache_dir / "chips" / key[:16]
        self.detector = (
            None if aligned else kind.load(partial(runtime.load, cache_dir=cache_dir), min_face_px)
        )

    def __call__(self, path: Path) -> tuple[str, Pixels | FaceError]:
        """Return the digest of the photo ("" if it cannot be read) and its chip, or what was wrong with it."""
        try:
            content = read(path)
        except FaceError as error:
            return "", error
        photo_digest = digest(content)
        file = self.folder / photo_digest[:2] / f"{photo_digest[2:]}.npy"
        known = self._known(file, path)
        if known is not None:
            return photo_digest, known
        try:
            chip: Pixels | FaceError = self._cut(content, path)
        except FaceError as error:
            chip = error
        self._keep(file, chip)
        return photo_digest, chip

    def _cut(self, content: bytes, path: Path) -> Pixels:
        decode = decoder((path, content))
        if self.detector is None:
            # Crops at full scale though less would do, or the chips would differ from those that caches hold.
            decode = decoder((path, decode(None)))
        return cut(decode, self.spec, self.detector, self.choice, path=path).chosen[0].chip

    def _known(self, file: Path, path: Path) -> Pixels | FaceError | None:
        """Return the chip that was cut before, or the reason why there was none; None if it is not known."""
        try:
            data = np.load(file)
        except (OSError, ValueError, EOFError):
            return None
        size = self.spec.input_size
        if data.dtype == np.uint8 and data.shape == (size, size, 3):
            return data
        if data.dtype != np.uint8 or data.ndim != 1:
            return None
        try:
            kind, what, hint, advice = json_text.parse(data.tobytes(), file)
        except (BadInput, TypeError, ValueError):
            return None
        return (NoFace if kind == NoFace.code else UnreadableImage)(what, path=path, hint=hint, advice=advice)

    def _keep(self, file: Path, chip: Pixels | FaceError) -> None:
        if isinstance(chip, FaceError):
            chip = np.frombuffer(
                json.dumps([chip.code, chip.what, chip.hint, chip.advice]).encode(), np.uint8
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        np.save(data, chip)
        # A chip that a power cut tears is seen by its length and cut again.
        write_atomic(file, data.getvalue(), synced=False)
