"""Templates as records: what `embed` writes and every later command reads.

A record is one face, schema `facecli.embed/1`: `path`, `face` (index, largest first), `n_faces`, `box`,
`landmarks`, `probability`, `quality` with its `quality_parts` and the `strictness` that follows from them,
`embedder_id`, `embedding`. A file that failed is a record with `path` and `error`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from facecli.arrays import Array
from facecli.errors import FaceError, printable
from facecli.templates.template import Embedded, FacePlace, FaceTemplate

SCHEMA = "facecli.embed/1"

ENDINGS = (".npy", ".jsonl", ".ndjson")
"""Endings, in any case, of files of templates, which may stand wherever photos may."""

ROW_COLUMNS = [
    "row",
    "path",
    "face",
    "n_faces",
    "left",
    "top",
    "right",
    "bottom",
    "probability",
    "embedder_id",
]
"""The table beside a .npy file of templates: one line a row of the array. Others may follow, such as `subject`."""

QUALITY_COLUMNS = ["quality", "strictness", "turned"]
"""Of the same table; older ones lack them."""


def embed_record(image: Embedded, chosen: FaceTemplate, embedder_id: str) -> dict[str, Any]:
    """Return the record of one face."""
    place = FacePlace.of(image, chosen).record()
    return {
        "schema": SCHEMA,
        "path": printable(image.path),
        "face": place["face"],
        "n_faces": place["n_faces"],
        "box": place["box"],
        "landmarks": [[round(x, 1), round(y, 1)] for x, y in chosen.face.landmarks],
        "probability": place["face_probability"],
        "turned": place["turned"],
        "quality": place["quality"],
        "quality_parts": None if chosen.quality is None else chosen.quality.record(),
        "strictness": chosen.strictness,
        "embedder_id": embedder_id,
        "embedding": numbers(chosen.embedding),
    }


def numbers(embedding: Array) -> list[float]:
    """Return a template as JSON shows it: nine digits give every float32 back exactly."""
    return [float(f"{value:.9g}") for value in embedding.tolist()]


def failed_record(path: str | Path, error: FaceError) -> dict[str, Any]:
    """Return the record of a file that failed."""
    return {"schema": SCHEMA, "path": printable(path), "error": error.record()}


def rows_path(npy: Path) -> Path:
    """Return where the table of rows of a .npy file of templates lies."""
    return npy.with_suffix(".csv")


def write_rows(file: IO[str], records: Iterable[dict[str, Any]]) -> None:
    """Write the table of rows of the templates in `records`."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(ROW_COLUMNS + QUALITY_COLUMNS)
    writer.writerows(row_cells(row, record) for row, record in enumerate(records))


def row_cells(row: int, record: dict[str, Any]) -> list[Any]:
    """Return what the table of rows says of a record: the values of `ROW_COLUMNS` and `QUALITY_COLUMNS`."""
    place = [record["path"], record["face"], record["n_faces"], *record["box"]]
    known = [record.get(name) for name in QUALITY_COLUMNS]
    return [row, *place, record["probability"], record["embedder_id"], *known]


def is_templates(path: str | Path) -> bool:
    """Say whether a path names a file of templates, by its ending."""
    return Path(path).suffix.lower() in ENDINGS


def is_npy(path: Path) -> bool:
    """Say whether a path names an array of templates, by its ending."""
    return path.suffix.lower() == ".npy"
