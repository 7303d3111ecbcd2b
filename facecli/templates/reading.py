"""Templates that were made before, read again: JSON Lines of embed, or an array with its table."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from facecli.arrays import Array
from facecli.errors import BadInput, EmbedderMismatch, NoSuchFile
from facecli.files import json_text
from facecli.templates.geometry import STRICTEST
from facecli.templates.records import QUALITY_COLUMNS, ROW_COLUMNS, SCHEMA, is_npy, rows_path
from facecli.templates.template import FacePlace, FailedProbe, Probe

MOST_FACES = 1_000_000
"""More than any photo shows."""
DAMAGED_ARRAY = (
    ValueError,
    OSError,
    EOFError,
    TypeError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TokenError,
)
"""NumPy reads the header of an array as Python: damage ends in errors of its tokenizer and parser, too."""
OF_FACECLI = "give it templates that facecli wrote"


def parse_record(line: str, *, source: str, number: int, embedder_id: str, dim: int) -> Probe | FailedProbe:
    """Read one line of JSON; raises `BadInput` with the line's number, `EmbedderMismatch` for another's template."""
    record = load_record(line, source=source, number=number, embedder_id=embedder_id, dim=dim)
    path = record["path"]
    if "error" in record:
        return FailedProbe(path, record["error"])
    try:
        place, strictness = _place(record)
    except ValueError as error:
        raise BadInput(
            f"line {number}: {error}", path=source, hint=OF_FACECLI, advice="feed_records"
        ) from error
    return Probe(path, record["embedding"], place, strictness)


def load_record(line: str, *, source: str, number: int, embedder_id: str, dim: int) -> dict[str, Any]:
    """Return the record in one line of JSON, its `embedding` as float32 [D]; one of a failure has `path`, `error`.

    Raises `BadInput` with the line's number, `EmbedderMismatch` for another's template.
    """

    def bad(what: str) -> BadInput:
        return BadInput(f"line {number}: {what}", path=source, hint=OF_FACECLI, advice="feed_records")

    record = json_text.parse(line, source, line=number, hint=OF_FACECLI, advice="feed_records")
    if not isinstance(record, dict):
        raise bad("is not a record")
    path = str(record.get("path", f"{source}:{number}"))
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise bad("has a 'path' that no file can have") from error
    failure = record.get("error")
    if failure is not None:
        if not (isinstance(failure, dict) and isinstance(failure.get("code"), str)):
            raise bad("has an 'error' without a code")
        return {"path": path, "error": {"code": failure["code"], "message": str(failure.get("message", ""))}}
    if record.get("schema") != SCHEMA:
        raise bad(f"has the schema {record.get('schema')!r}, this version reads '{SCHEMA}'")
    check_embedder(str(record.get("embedder_id")), embedder_id, f"{source}, line {number}")
    embedding: Any = record.get("embedding")
    right = isinstance(embedding, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2
        for value in embedding
    )
    if not right or not _is_template(np.array(embedding, np.float32), dim):
        raise bad(f"has no 'embedding' of {dim} numbers and length 1")
    return {**record, "path": path, "embedding": np.array(embedding, np.float32)}


def _place(record: Mapping[str, Any]) -> tuple[FacePlace, float]:
    """Return which face a record is about, and how strict its comparisons are; raises `ValueError` for nonsense."""

    def number(key: str, highest: float, kind: type = float) -> Any:
        value = record.get(key)
        if value is None:
            return None
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= highest
        if not right or (kind is int and value != int(value)):
            raise ValueError(f"'{key}' is no {'count' if kind is int else 'number'} from 0 to {highest:g}")
        return kind(value)

    box = record.get("box")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_px, box))):
        raise ValueError("'box' is no list of four numbers of px")
    strictness = number("strictness", STRICTEST)
    place = FacePlace(
        number("face", MOST_FACES, int),
        number("n_faces", MOST_FACES, int),
        None if box is None else tuple(map(float, box)),
        number("probability", 1),
        number("quality", 100),
        number("turned", 270, int),
    )
    return place, 0.0 if strictness is None else strictness


def _is_px(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def is_rows(path: Path) -> bool:
    """Say whether a file is a table that `write_rows` wrote, by its first line."""
    with open(path, "rb") as file:
        columns = file.readline().rstrip(b"\r\n").split(b",")
    return columns[: len(ROW_COLUMNS)] == ",".join(ROW_COLUMNS).encode().split(b",")


def read_templates(source: Path, *, embedder_id: str, dim: int) -> Iterator[Probe | FailedProbe]:
    """Yield what `facecli embed` wrote to a file: `x.npy` with its table `x.csv`, or JSON Lines.

    Raises `NoSuchFile`, `BadInput` and `EmbedderMismatch`, as `read_npy` and `parse_record` do.
    """
    if is_npy(source):
        yield from read_npy(source, embedder_id=embedder_id, dim=dim)
        return
    if not source.is_file():
        raise no_such_templates(source)
    with open(source, encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield parse_record(line, source=str(source), number=number, embedder_id=embedder_id, dim=dim)


def read_npy(npy: Path, *, embedder_id: str, dim: int) -> Iterator[Probe]:
    """Yield the templates of a .npy file that `embed -o` wrote, by the table beside it.

    Raises `NoSuchFile` when either is missing, `BadInput` when they do not fit, `EmbedderMismatch`.
    """
    table = rows_path(npy)
    templates = open_array(npy)
    try:
        with open(table, encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"is not a table of templates ({error})", path=table) from error
    if templates.ndim != 2 or len(rows) != len(templates):
        shape = " x ".join(map(str, templates.shape))
        raise BadInput(f"holds {shape} numbers, its table {table.name} has {len(rows)} rows", path=npy)
    for number, (row, template) in enumerate(zip(rows, templates, strict=True)):
        try:
            if None in row or None in row.values():
                raise ValueError("it has not as many columns as the header")
            check_embedder(row["embedder_id"], embedder_id, f"{table}, row {number}")
            place, strictness = _place(
                {
                    "face": int(row["face"]),
                    "n_faces": int(row["n_faces"]),
                    "box": [float(row[side]) for side in ("left", "top", "right", "bottom")],
                    "probability": float(row["probability"]),
                    # Empty for a face crop, and missing in a table of before.
                    **{name: float(row[name]) for name in QUALITY_COLUMNS if row.get(name)},
                }
            )
            path = row["path"]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"row {number} cannot be read ({error})", path=table) from error
        if not _is_template(template, dim):
            raise BadInput(f"row {number} is not a template of {dim} numbers and length 1", path=npy)
        yield Probe(path, np.asarray(template, np.float32), place, strictness)


def no_such_templates(source: Path) -> NoSuchFile:
    """Return the error for a file of templates that is not there."""
    return NoSuchFile("no such file of templates", path=source, hint=OF_FACECLI, advice="make_templates")


def open_array(npy: Path) -> Array:
    """Map the array of a .npy file of templates, whatever its shape; raises as `read_npy` does."""
    for file in (npy, rows_path(npy)):
        if not file.is_file():
            raise NoSuchFile(
                "no such file", path=file, hint="x.npy lies beside x.csv", advice="array_and_table"
            )
    try:
        array = np.load(npy, mmap_mode="r", allow_pickle=False)
    except DAMAGED_ARRAY as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"is not an array of templates ({what})", path=npy) from error
    if not isinstance(array, np.ndarray):
        raise BadInput("is not an array of templates but an archive", path=npy)
    return array


def _is_template(values: np.ndarray, dim: int) -> bool:
    """Say whether these are `dim` numbers of length 1: of another length, a similarity would mean nothing."""
    right = values.shape == (dim,) and values.dtype.kind == "f"
    # What overflows is not of length 1, and no remark of NumPy's.
    with np.errstate(over="ignore", invalid="ignore"):
        return right and abs(float(np.linalg.norm(values)) - 1) < 1e-3


def check_embedder(theirs: str, ours: str, where: str) -> None:
    """Raise `EmbedderMismatch` unless a template at `where` was made by the embedder `ours`."""
    if theirs != ours:
        raise EmbedderMismatch(
            f"the template was made by '{theirs}', this is '{ours}'",
            path=where,
            hint="templates of different embedders cannot be compared: use the model and options they were made with",
        )
