"""From photographs to templates: decode, detect, align, embed; batched, and overlapped over the cores.

One `Embedder` is built once and used for everything. Its `id` is a digest of all that changes a template.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from facecli.arrays import Array, Pixels
from facecli.config import (
    BATCH_SIZE,
    DEFAULT_FACES,
    DEFAULT_MODEL,
    MAX_PIXELS,
    MIN_QUALITY,
    Detection,
    cores,
    default_cache_dir,
)
from facecli.errors import BadInput, FaceError, UsageError
from facecli.faces.choice import Choice
from facecli.faces.crop import Crop, Crops, cut
from facecli.faces.detector import DEFAULT_DETECTOR, detector_class
from facecli.faces.quality import judged, refusal
from facecli.faces.upright import LONGER, in_doubt, upright
from facecli.hooks import Notify
from facecli.models import runtime
from facecli.models.registry import load_network, resolve
from facecli.models.spec import ModelSpec
from facecli.photos.budget import PixelBudget, Share
from facecli.photos.levels import FLAT
from facecli.photos.source import Decode, NamedPhoto, decoder
from facecli.templates.template import Embedded, Enrolled, FaceTemplate

PIPELINE = 1
"""Part of every id: raise it when decoding, detection or alignment change what a template comes out as."""

_PHOTOS_A_TASK = 8

UNIT_WITHIN = 1e-3
"""How far from 1 the length of a template may be."""
_Output = tuple[Array, float]
"""A template, and the length of the raw output that it was made of."""


class Embedder:
    """A network, its input contract and a face detector, ready to run.

    `id` names everything that changes a template: weights, input contract, alignment, detector with its
    search limits and reduced-scale decoding, which photos are turned and spread, precision. Not the smallest face
    asked for, which adds faces without moving others, nor the engine: float32 engines agree to 1e-4.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        cache_dir: Path | None = None,
        user_dir: Path | None = None,
        weights: Path | None = None,
        device: str = "cpu",
        faces: str = DEFAULT_FACES,
        face: int | None = None,
        aligned: bool = False,
        min_face_px: int = Detection.min_face_px,
        min_quality: float = MIN_QUALITY,
        max_pixels: int = MAX_PIXELS,
        detector: str = DEFAULT_DETECTOR,
        workers: int | None = None,
        notify: Notify | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        """Load `model`, preparing on first use what it needs.

        `cache_dir` holds weights and exported networks; None is the platform's cache folder of the user, as its data
        folder is for `user_dir`, where models are that were added.
        `faces` is one of `choice.POLICIES`; `face` asks for one index instead. `aligned` takes images as face crops:
        nothing is searched; otherwise `detector` is one of `DETECTORS`. Where one face counts, one whose quality is
        below `min_quality` is an error, for networks that tell. `max_pixels` are decoded at once, over all threads, at
        most: a photo of more is unreadable. `weights` is a file to use in place of the model's
        own. `progress` hears of a download.

        Raises `UsageError`, `WeightsMissing` and what `resolve` raises.
        """
        self.cache_dir = cache_dir if cache_dir is not None else default_cache_dir()
        kind = detector_class(detector)
        if min_face_px < kind.smallest_px:
            raise UsageError(
                f"the smallest face is {min_face_px} px",
                hint=f"the detector sees faces of {kind.smallest_px} px or more",
            )
        self.spec: ModelSpec = resolve(model, user_dir)
        self.choice = Choice(faces, face)
        self.aligned = aligned
        self.workers = workers if workers is not None else cores()
        self.min_face_px = min_face_px
        self.min_quality = min_quality
        self._budget = PixelBudget(max_pixels)
        network = load_network(
            self.spec, cache_dir=self.cache_dir, weights=weights, notify=notify, progress=progress
        )
        load = partial(runtime.load, cache_dir=self.cache_dir, device=device, notify=notify)
        self._network = load(network)
        self._detector = None if aligned else kind.load(load, min_face_px)
        self.id = embedder_id(self.spec, network.key, aligned, detector)

    @property
    def dim(self) -> int:
        """Return the length of a template."""
        return self.spec.dim

    @property
    def limits(self) -> str:
        """Return what decides whether an image has a face at all, for those that remember which had none."""
        if self.aligned:
            return "aligned"
        limits = f"faces of {self.min_face_px} px or more"
        return (
            limits
            if self.spec.upright_length is None
            else f"{limits}, of quality {self.min_quality:g} or more"
        )

    @property
    def lowest_quality(self) -> float:
        """Return the quality below which no decision is made; 0 for networks that do not tell."""
        return 0.0 if self.spec.upright_length is None else self.min_quality

    def choosing(self, faces: str, face: int | None = None) -> Embedder:
        """Return this embedder with another choice of faces; the networks are shared."""
        other = copy(self)
        other.choice = Choice(faces, face)
        return other

    def embed(self, photos: Iterable[NamedPhoto]) -> Iterator[Embedded | FaceError]:
        """Yield one result per photo, in order: its chosen faces, or what was wrong with it.

        `photos` is read a few batches ahead. An image with no face is a `NoFace`, one face of too low a quality a
        `LowQuality`; with the policy `one`, several are a `SeveralFaces`. One whose template is no unit vector is a
        `BadInput`.
        """
        if self.workers == 1:
            for task in _tasks(photos, 1):
                yield from self._embed_task(task)
            return
        pending: deque[Future[list[Embedded | FaceError]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="facecli")
        try:
            for task in _tasks(photos, self.workers):
                pending.append(pool.submit(self._embed_task, task))
                if len(pending) > 2 * self.workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def enrol(self, photos: Iterable[NamedPhoto]) -> Iterator[Enrolled | FaceError]:
        """Yield one template per photo, in order, for a database: the chosen face, or what was wrong."""
        for result in self.embed(photos):
            if isinstance(result, FaceError):
                yield result
                continue
            chosen = result.faces[0]
            yield Enrolled(
                embedding=chosen.embedding,
                box=chosen.face.box,
                landmarks=chosen.face.landmarks,
                probability=chosen.face.probability,
                face=chosen.index,
                n_faces=result.n_faces,
                quality=chosen.quality,
            )

    def templates(self, chips: Pixels) -> Array:
        """Return float32 [N, D] unit rows for chips uint8 [N, S, S, 3] in RGB; see `outputs`."""
        return self.outputs(chips)[0]

    def outputs(self, chips: Pixels) -> tuple[Array, Array]:
        """Return float32 [N, D] unit rows for chips uint8 [N, S, S, 3] in RGB, and the raw outputs' lengths [N].

        The template of a network with `mirror` is normalise(raw(chip) + raw(mirrored chip)). A raw output of
        length 0 stays 0, and one that is not finite is none: `embed` makes errors of both.
        """
        rows = [np.empty((0, self.dim), np.float32)]
        lengths = [np.empty(0, np.float32)]
        for start in range(0, len(chips), BATCH_SIZE):
            batch = prepare(chips[start : start + BATCH_SIZE], self.spec)
            raw = self._network(batch)[0]
            if self.spec.mirror:
                raw = raw + self._network(np.ascontiguousarray(batch[..., ::-1]))[0]
            # A network may give what is not finite: whoever takes the row has to look.
            with np.errstate(over="ignore", invalid="ignore"):
                length = np.sqrt(np.sum(np.square(raw, dtype=np.float64), axis=1, keepdims=True))
                rows.append((raw / np.where(length > 0, length, 1)).astype(np.float32))
                lengths.append(length[:, 0].astype(np.float32))
        return np.concatenate(rows), np.concatenate(lengths)

    def _embed_task(self, task: list[NamedPhoto]) -> list[Embedded | FaceError]:
        shares = [Share(self._budget) for _ in task]
        cut_photos = [self._cut(photo, share) for photo, share in zip(task, shares, strict=True)]
        outputs = self._outputs_of(crops for crops, _ in cut_photos if isinstance(crops, Crops))
        results: list[Embedded | FaceError] = []
        for (path, _), (crops, decode), share in zip(task, cut_photos, shares, strict=True):
            own = list(islice(outputs, len(crops.chosen))) if isinstance(crops, Crops) else []
            if decode is not None:
                with share:
                    crops, own = self._upright(crops, own, decode, path)
            if isinstance(crops, FaceError):
                results.append(crops)
                continue
            faces = tuple(
                self._face_template(crops, *of_one) for of_one in zip(crops.chosen, own, strict=True)
            )
            results.append(self._checked(Embedded(path, crops.width, crops.height, crops.n_faces, faces)))
        return results

    def _checked(self, image: Embedded) -> Embedded | FaceError:
        """Return the image, or what is wrong with the templates of its faces."""
        if not all(abs(np.linalg.norm(face.embedding) - 1) < UNIT_WITHIN for face in image.faces):
            what = "the network's output for a face is zero or not finite"
            return BadInput(what, path=image.path, hint="check the model and its contract")
        quality = image.faces[0].quality
        if quality is not None and quality.score < self.lowest_quality and self.choice.policy != "all":
            return refusal(quality, image.path)
        return image

    def _outputs_of(self, photos: Iterable[Crops]) -> Iterator[_Output]:
        """Yield the template and the raw output's length of each chip of `photos`."""
        chips = [crop.chip for crops in photos for crop in crops.chosen]
        size = self.spec.input_size
        templates, lengths = self.outputs(np.array(chips, np.uint8).reshape(-1, size, size, 3))
        return zip(templates, lengths.tolist(), strict=True)

    def _cut(self, photo: NamedPhoto, share: Share) -> tuple[Crops | FaceError, Decode | None]:
        """Return the faces of a photo as it lies, and what decodes it, None where it cannot be read."""
        decode = None
        try:
            decode = decoder(photo, share)
            with share:
                return cut(decode, self.spec, self._detector, self.choice, path=photo[0]), decode
        except FaceError as error:
            return error, decode

    def _upright(
        self, crops: Crops | FaceError, outputs: list[_Output], decode: Decode, path: Path
    ) -> tuple[Crops | FaceError, list[_Output]]:
        """Return the faces of a photo at the turn at which they are upright, with their outputs."""
        lengths = [length for _, length in outputs]
        if self._detector is None or not in_doubt(crops, lengths, self.spec):
            return crops, outputs
        try:
            turned = upright(
                crops,
                lengths,
                decode,
                self.spec,
                self._detector,
                self.choice,
                length_of=lambda chip: float(self.outputs(chip[None])[1][0]),
                path=path,
            )
        except FaceError as error:
            return error, []
        return (crops, outputs) if turned is None else (turned, list(self._outputs_of([turned])))

    def _face_template(self, crops: Crops, crop: Crop, output: _Output) -> FaceTemplate:
        template, length = output
        told = length if self.spec.upright_length is not None else None
        quality = None if crop.appearance is None else judged(crop.appearance, told)
        return FaceTemplate(crop.face, crop.index, template, quality, crops.turned)


def prepare(chips: Pixels, spec: ModelSpec) -> Array:
    """Return the network's input, float32 [N, 3, S, S], from chips uint8 [N, S, S, 3] in RGB."""
    order = [("RGB").index(channel) for channel in spec.channel_order]
    planes = chips.transpose(0, 3, 1, 2)[:, order].astype(np.float32)
    planes -= np.array(spec.mean, np.float32)[:, None, None]
    planes /= np.array(spec.std, np.float32)[:, None, None]
    return planes


def embedder_id(spec: ModelSpec, network_key: str, aligned: bool, detector: str = DEFAULT_DETECTOR) -> str:
    """Return the model's name and a digest of all that changes a template."""
    searched = None if aligned else detector_class(detector).identity
    what = {
        "pipeline": PIPELINE,
        "network": network_key,
        "input_size": spec.input_size,
        "channel_order": spec.channel_order,
        "mean": spec.mean,
        "std": spec.std,
        "mirror": spec.mirror,
        "precision": "float32",
        "template": None if aligned else spec.template,
        "crop_margin": None if aligned else spec.crop_margin,
        "detector": None if searched is None else searched.weights,
        "search": None if searched is None else searched.search,
    }
    if spec.upright_length is not None:
        what["flat"] = FLAT
        what["upright"] = None if aligned else [spec.upright_length, LONGER]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in spec.name)
    return f"{safe}{'-aligned' if aligned else ''}-{digest[:12]}"


def _tasks(photos: Iterable[NamedPhoto], workers: int) -> Iterator[list[NamedPhoto]]:
    """Cut `photos` into tasks that grow from one photo to `_PHOTOS_A_TASK`, so that a few keep all cores busy."""
    task: list[NamedPhoto] = []
    count = 0
    for photo in photos:
        task.append(photo)
        if len(task) > min(count // workers, _PHOTOS_A_TASK - 1):
            yield task
            task = []
            count += 1
    if task:
        yield task
