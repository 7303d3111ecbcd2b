"""Reads files of templates that name their subjects, block by block: what `db import` takes in.

The files are those of `facecli embed`: `x.npy` with its table `x.csv`, or JSON Lines. Who a template shows stands
in a column `subject` of the table, or under that key of the record, or is said for the whole file.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput, FaceError, one_line, printable
from facecli.templates.geometry import STRICTEST, geometry
from facecli.templates.reading import check_embedder, load_record, no_such_templates, open_array
from facecli.templates.records import QUALITY_COLUMNS, ROW_COLUMNS, is_npy, rows_path
from facecli.templates.template import FailedProbe

BLOCK_ROWS = 8192
BLOCK_LINES = 1024
"""Lines of JSON take far more memory than rows of an array."""

LENGTH_TOLERANCE = 1e-3
"""How far from 1 a template's length may lie. Half precision stays within it."""

EXACT = 1e-6
"""How far the length of a unit row in float32 lies from 1 at most; beyond it a row is scaled."""

MOST_FACES = 1 << 20
FARTHEST_PX = 1e9
"""How many faces a photo has at most, and how far from its corner they are."""


@dataclass
class Block:
    """Some templates in the order of their file. Mutable while it is filled."""

    subjects: list[bytes] = field(default_factory=list)
    paths: list[bytes] = field(default_factory=list)
    """Below the subject, as `sample_name` makes them."""
    details: list[tuple[int, int, float, str]] = field(default_factory=list)
    """Index of the face, faces seen, probability of being a face, JSON of box and landmarks."""
    templates: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """[n, D], unit rows."""
    failed: list[FailedProbe] = field(default_factory=list)
    """Records that say that something could not be embedded."""
    total: int | None = None
    """Rows of the whole file, where that is known."""

    def add(
        self,
        subject: str,
        path: str,
        face: int,
        n_faces: int,
        probability: float,
        box: list[float],
        landmarks: list[list[float]],
        quality: float | None,
        strictness: float,
    ) -> None:
        """Add all but the template; raises `BadInput` for what no face in a photo has."""
        name = subject_name(subject)
        # Not a number compares as false.
        if not (0 <= face < MOST_FACES and 0 <= n_faces <= MOST_FACES):
            raise BadInput(f"face {face} of {n_faces} cannot be")
        if not 0 <= probability <= 1:
            raise BadInput(f"a probability of {probability:g} cannot be")
        if len(box) != 4 or not all(abs(x) <= FARTHEST_PX for x in itertools.chain(box, *landmarks)):
            raise BadInput("its box or landmarks are no place in a photo")
        if not (quality is None or 0 <= quality <= 100) or not 0 <= strictness <= STRICTEST:
            raise BadInput("its quality cannot be")
        self.subjects.append(name)
        self.paths.append(sample_name(name, os.fsencode(path), face))
        place = geometry(box, landmarks, quality, strictness)
        self.details.append((face, n_faces, probability, place))


def read_blocks(
    source: Path | Iterable[str], *, embedder_id: str, dim: int, subject: str | None = None
) -> Iterator[Block]:
    """Yield the templates of a file, or of lines of JSON, which all show `subject` where one is given.

    Raises `NoSuchFile`, `EmbedderMismatch`, and `BadInput` with the row for anything that is not a template of
    `dim` numbers of length 1, or names no subject. What was yielded before was right.
    """
    if not isinstance(source, Path):
        yield from _json_blocks(source, "stdin", embedder_id, dim, subject)
    elif is_npy(source):
        yield from _array_blocks(source, embedder_id, dim, subject)
    elif not source.is_file():
        raise no_such_templates(source)
    else:
        with open(source, encoding="utf-8", errors="surrogateescape") as lines:
            yield from _json_blocks(lines, str(source), embedder_id, dim, subject)


def subject_name(name: str) -> bytes:
    """Return the name of a subject as its folder would have it; raises `BadInput` for what no folder can have."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError as error:
        raise BadInput(f"'{one_line(ascii(name))}' cannot name a subject") from error
    if not raw or raw.startswith(b".") or b"/" in raw or b"\0" in raw:
        raise BadInput(
            f"'{one_line(printable(name))}' cannot name a subject",
            hint="a name is not empty, has no '/', and does not begin with a dot",
        )
    return raw


def sample_name(subject: bytes, path: bytes, face: int) -> bytes:
    """Return the path of a template below its subject.

    It is that of its photo, less a leading folder of the subject's name, and `#2` for the face with index 2.

    >>> sample_name(b"Ada", b"Ada/1.jpg", 0), sample_name(b"Ada", b"/photos/party.jpg", 2)
    (b'1.jpg', b'photos/party.jpg#2')
    """
    parts = [part for part in path.replace(b"\0", b"").split(b"/") if part not in (b"", b".", b"..")]
    if len(parts) > 1 and parts[0] == subject:
        del parts[0]
    name = b"/".join(parts) if parts else b"template"
    return name + b"#%d" % face if face else name


def _array_blocks(npy: Path, embedder_id: str, dim: int, subject: str | None) -> Iterator[Block]:
    table = rows_path(npy)
    templates = open_array(npy)
    try:
        with open(table, encoding="utf-8", newline="") as lines:
            n_rows = sum(1 for _ in csv.reader(lines)) - 1
        if templates.ndim != 2 or n_rows != len(templates):
            shape = " x ".join(map(str, templates.shape))
            raise BadInput(f"holds {shape} numbers, its table {table.name} has {n_rows} rows", path=npy)
        with open(table, encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines)
            columns = _columns(next(reader), table, subject)
            for start in range(0, n_rows, BLOCK_ROWS):
                block = Block(total=n_rows)
                for number, row in enumerate(islice(reader, BLOCK_ROWS), start=start):
                    _add_row(block, row, columns, subject, embedder_id, f"{table}, row {number}")
                block.templates = _unit(templates[start : start + BLOCK_ROWS], dim, start, npy)
                yield block
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"is not a table of templates ({error})", path=table) from error


def _columns(header: list[str], table: Path, subject: str | None) -> list[int]:
    """Return where the values of a row stand, -1 for those that the table lacks or that are given.

    They are `ROW_COLUMNS`, `QUALITY_COLUMNS` and the subject.
    """
    missing = [name for name in ROW_COLUMNS if name not in header]
    if missing:
        raise BadInput(
            f"is not a table of templates (no column '{missing[0]}')",
            path=table,
            hint="x.npy lies beside x.csv",
            advice="array_and_table",
        )
    if subject is None and "subject" not in header:
        raise nobody(str(table))
    where = [header.index(name) if name in header else -1 for name in ROW_COLUMNS + QUALITY_COLUMNS]
    return [*where, header.index("subject") if subject is None else -1]


def nobody(source: str) -> BadInput:
    """Return the error for templates that do not say whom they show."""
    return BadInput(
        "does not say whom the templates show",
        path=source,
        hint="give one subject for all of them, or each its own under 'subject'",
        advice="whom_they_show",
    )


def _add_row(
    block: Block, row: list[str], columns: list[int], subject: str | None, embedder_id: str, where: str
) -> None:
    try:
        _, path, face, n_faces, left, top, right, bottom, probability, theirs, quality, strictness, _ = (
            row[at] if at >= 0 else "" for at in columns[:-1]
        )
        check_embedder(theirs, embedder_id, where)
        box = [float(left), float(top), float(right), float(bottom)]
        block.add(
            subject if subject is not None else row[columns[-1]],
            path,
            int(face),
            int(n_faces),
            float(probability),
            box,
            [],
            float(quality) if quality else None,
            float(strictness) if strictness else 0.0,
        )
    except (IndexError, ValueError, OverflowError) as error:
        raise BadInput(f"cannot be read ({error})", path=where) from error
    except BadInput as error:
        raise BadInput(error.what, path=where, hint=error.hint) from error


def _unit(rows: NDArray[Any], dim: int, start: int, npy: Path) -> NDArray[np.float32]:
    """Return the rows as float32 of unit length; raises `BadInput` for one that is no template."""
    if rows.shape[1] != dim or rows.dtype.kind != "f":
        raise BadInput(
            f"holds rows of {rows.shape[1]} numbers of type {rows.dtype}, a template has {dim} floats",
            path=npy,
        )
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(rows, np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", single, single, dtype=np.float64))
    # Not a number compares as false, so it is caught as well.
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= LENGTH_TOLERANCE))
    if len(wrong):
        raise BadInput(
            f"row {start + wrong[0]} is not a template of length 1 (it is {lengths[wrong[0]]:.4g} long)",
            path=npy,
            hint="divide each row by its length, if these are templates of this model",
        )
    off = np.abs(lengths - 1) > EXACT
    if off.any():
        single = np.where(off[:, None], single / lengths[:, None], single).astype(np.float32)
    return np.asarray(single, np.float32)


def _json_blocks(
    lines: Iterable[str], source: str, embedder_id: str, dim: int, subject: str | None
) -> Iterator[Block]:
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    while batch := list(islice(numbered, BLOCK_LINES)):
        block = Block()
        rows = []
        for number, line in batch:
            record = load_record(line, source=source, number=number, embedder_id=embedder_id, dim=dim)
            if "error" in record:
                block.failed.append(FailedProbe(record["path"], record["error"]))
                continue
            _add_record(block, record, subject, source, number)
            rows.append(record["embedding"])
        block.templates = _unit(np.array(rows, np.float32).reshape(-1, dim), dim, 0, Path(source))
        yield block


def _add_record(block: Block, record: dict[str, Any], subject: str | None, source: str, number: int) -> None:
    name = subject if subject is not None else record.get("subject")
    if name is None:
        raise nobody(f"{source}, line {number}")
    try:
        box = [float(side) for side in record["box"]]
        landmarks = [[float(x), float(y)] for x, y in record.get("landmarks", [])]
        face, n_faces = int(record["face"]), int(record["n_faces"])
        quality = record.get("quality")
        block.add(
            str(name),
            record["path"],
            face,
            n_faces,
            float(record["probability"]),
            box,
            landmarks,
            None if quality is None else float(quality),
            float(record.get("strictness") or 0.0),
        )
    except FaceError as error:
        raise BadInput(error.what, path=f"{source}, line {number}", hint=error.hint) from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"line {number}: cannot be read ({error})", path=source) from error
