"""What a network is trained on: chips with the subjects they show, from a folder per subject or MNIST's files.

Photos are searched for a face and aligned once (`chips`), so a second run, or a run on more photos, only works on
what is new.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from facecli.arrays import Pixels
from facecli.calibration.calibration import data_digest
from facecli.config import DEFAULT_FACES, Detection, PickedFacePolicy
from facecli.errors import BadInput, FaceError, NoSuchFile, UsageError, printable
from facecli.faces.choice import Choice
from facecli.hooks import Progress
from facecli.models.spec import ModelSpec
from facecli.photos.find import walk
from facecli.training.chips import ChipCache

IDX_IMAGES = 0x00000803
IDX_LABELS = 0x00000801
"""Magic numbers of MNIST's files: unsigned bytes in three dimensions and in one (LeCun's description)."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """N chips and who they show.

    `chips` uint8 [N, S, S, 3] RGB; `labels` int64 [N] number `subjects` (names, in their order) from 0 without
    gaps; `digests` are those of the images' bytes. `failures` are the images that gave no chip. `sources` numbers
    where each of `subjects` comes from, for those that were put together; empty when they come from one place.
    """

    chips: Pixels
    labels: NDArray[np.int64]
    subjects: tuple[str, ...]
    digests: tuple[str, ...]
    failures: tuple[FaceError, ...] = ()
    sources: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """The subject of each chip."""
        return [self.subjects[label] for label in self.labels]

    @property
    def digest(self) -> str:
        """SHA-256 of images and subjects, whatever their order."""
        return data_digest(f"{d} {s}" for d, s in zip(self.digests, self.names, strict=True))

    def of(self, subjects: Sequence[str]) -> TrainingSet:
        """Return the part that shows `subjects`, labelled anew."""
        wanted = sorted(set(subjects))
        chosen = np.isin(self.labels, [self.subjects.index(name) for name in wanted])
        _, labels = np.unique(self.labels[chosen], return_inverse=True)
        digests = tuple(d for d, take in zip(self.digests, chosen, strict=True) if take)
        sources = tuple(self.sources[self.subjects.index(name)] for name in wanted) if self.sources else ()
        return TrainingSet(
            self.chips[chosen], labels.astype(np.int64), tuple(wanted), digests, sources=sources
        )


def load(
    data: Path,
    spec: ModelSpec,
    *,
    cache_dir: Path,
    aligned: bool = False,
    faces: str = DEFAULT_FACES,
    min_face_px: int = Detection.min_face_px,
    workers: int = 1,
    progress: Progress | None = None,
) -> TrainingSet:
    """Return the chips of `data` as the network of `spec` wants them.

    `data` is a folder with a folder of images per subject, or a folder with MNIST's idx files. `aligned` takes
    images as face crops: nothing is searched; otherwise `faces` says which face of a photo is its subject's,
    `largest` or `center`. Files that give no chip are listed as failures.

    Raises `UsageError` for other `faces`, `NoSuchFile`, `UnreadableImage` for what is no folder, and `BadInput`
    when it holds nothing to learn from.
    """
    idx = sorted(data.glob("*images*idx3-ubyte*")) if data.is_dir() else []
    if idx:
        return _load_idx(idx[0], spec.input_size)
    photos, loose = _photos(data)
    if not photos:
        raise BadInput(
            "no folder of images per subject here" + (f", only {loose} loose images" if loose else ""),
            path=data,
            hint="put each person's images into a folder of their name",
        )
    policies = get_args(PickedFacePolicy)
    if faces not in policies:
        raise UsageError(
            f"one face of a photo is trained on, not '{faces}'", hint=f"choose {' or '.join(policies)}"
        )
    chip_of = ChipCache(spec, cache_dir, aligned, min_face_px, Choice(faces))
    chips: list[Pixels] = []
    shown: list[str] = []
    digests: list[str] = []
    failures: list[FaceError] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="facecli") as pool:
        results = pool.map(chip_of, (path for _, path in photos))
        for done, ((subject, _), (photo_digest, chip)) in enumerate(zip(photos, results, strict=True), 1):
            if isinstance(chip, FaceError):
                failures.append(chip)
            else:
                chips.append(chip)
                shown.append(subject)
                digests.append(photo_digest)
            if progress is not None:
                progress(done, len(photos))
    if not chips:
        raise BadInput(f"none of the {len(photos)} images could be used ({failures[0].what})", path=data)
    names, labels = np.unique(shown, return_inverse=True)
    return TrainingSet(
        np.stack(chips), labels.astype(np.int64), tuple(names.tolist()), tuple(digests), tuple(failures)
    )


def together(sets: Sequence[TrainingSet]) -> TrainingSet:
    """Return the training sets as one, which remembers where each subject comes from; the order is theirs.

    Raises `BadInput` for a subject of two of them: whether that is one person cannot be known.
    """
    subjects: tuple[str, ...] = sum((part.subjects for part in sets), ())
    twice = sorted(name for name, count in Counter(subjects).items() if count > 1)
    if twice:
        raise BadInput(
            f"the subject '{twice[0]}' is in two of the folders",
            hint="rename one, or put both into one folder if they are one person",
        )
    starts = np.cumsum([0, *(len(part.subjects) for part in sets)])
    return TrainingSet(
        np.concatenate([part.chips for part in sets]),
        np.concatenate([part.labels + start for part, start in zip(sets, starts, strict=False)]),
        subjects,
        sum((part.digests for part in sets), ()),
        sum((part.failures for part in sets), ()),
        tuple(source for source, part in enumerate(sets) for _ in part.subjects),
    )


def split(data: TrainingSet, share: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """Return (training, validation) sets that share no subject: about `share` of the subjects validate.

    A subject's place follows from its name and the seed, so it stays when others are added. Raises `BadInput`
    unless both parts have two subjects, one of them with two images in each.
    """
    ranked = sorted(data.subjects, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    held_out = ranked[: max(2, round(share * len(ranked)))]
    rest = [name for name in data.subjects if name not in set(held_out)]
    images_of = np.bincount(data.labels, minlength=len(data.subjects))
    many = {name for name, count in zip(data.subjects, images_of, strict=True) if count > 1}
    if len(rest) < 2 or not many & set(rest) or not many & set(held_out):
        raise BadInput(
            f"{len(data.subjects)} subjects, {len(many)} of them with two images or more,"
            f" cannot be divided into {len(rest)} to train on and {len(held_out)} to validate on",
            hint="add people, or give others for validation",
            advice="more_people",
        )
    return data.of(rest), data.of(held_out)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array in one of MNIST's idx files, gzipped or not: uint8 [N, H, W] or [N].

    Raises `NoSuchFile` and `BadInput` for what is no such file, or one of another length than it says.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError as error:
        raise NoSuchFile("no such idx file", path=path) from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot be read ({error})", path=path) from error
    magic = int.from_bytes(data[:4], "big")
    if magic not in (IDX_IMAGES, IDX_LABELS):
        raise BadInput("not an idx file of bytes", path=path, hint="MNIST's files start with 00 00 08")
    dims = magic & 0xFF
    shape = [int.from_bytes(data[4 * k : 4 * k + 4], "big") for k in range(1, dims + 1)]
    if len(data) != 4 + 4 * dims + int(np.prod(shape)):
        raise BadInput(f"holds {len(data)} bytes, which is not what {shape} needs", path=path)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def _load_idx(path: Path, size: int) -> TrainingSet:
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    pixels, classes = read_idx(path), read_idx(beside)
    if len(pixels) != len(classes) or pixels.ndim != 3:
        raise BadInput(f"{len(classes)} labels do not fit images of shape {pixels.shape}", path=beside)
    digests = tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in pixels)
    if pixels.shape[1:] != (size, size):
        pixels = np.stack(
            [
                np.asarray(PillowImage.fromarray(image).resize((size, size), PillowImage.Resampling.BILINEAR))
                for image in pixels
            ]
        )
    names, labels = np.unique(classes, return_inverse=True)
    chips = np.repeat(pixels[..., None], 3, axis=3)
    return TrainingSet(chips, labels.astype(np.int64), tuple(str(name) for name in names), digests)


def _photos(root: Path) -> tuple[list[tuple[str, Path]], int]:
    """Return (subject, path) of the images in the subjects' folders, and how many lie loose."""
    photos, loose = [], 0
    for entry in walk(root):
        path = Path(entry.path)
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            photos.append((printable(parts[0]), path))
        else:
            loose += 1
    return photos, loose
