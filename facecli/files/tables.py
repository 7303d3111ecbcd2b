"""Tables in text: csv with a header, read so that every row knows its line and a bad one harms no other."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facecli.errors import BadInput, NoSuchFile, reason

MATED = frozenset({"1", "true", "yes", "same", "mated"})
"""What the column `mated` may say of two images of one subject, in any case."""
NONMATED = frozenset({"0", "false", "no", "different", "nonmated", "non-mated"})
"""What it may say of two subjects."""

MOST_BYTES = 1 << 29
"""Of a pipe or a device that is read as a whole: it may never end."""

SUBJECTS = ("left_subject", "right_subject")


@dataclass
class Table:
    """Column names, (line, row) by column, and the errors of the rows left out, as (line, error). Mutable."""

    source: str
    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    errors: list[tuple[int, BadInput]]

    def refuse(self, line: int, what: str, hint: str = "") -> None:
        """Leave the row that begins at `line` out."""
        self.errors.append((line, at_line(self.source, line, what, hint)))

    def in_order(self) -> tuple[BadInput, ...]:
        """Return the errors by line."""
        return tuple(error for _, error in sorted(self.errors, key=lambda e: e[0]))

    def nothing(self) -> BadInput:
        """Return the error of a table of which no row can be used."""
        return BadInput(f"no row can be used ({self.in_order()[0].what})", path=self.source)


def parse_table(data: bytes, *, source: str, required: Sequence[str], known: Sequence[str]) -> Table:
    """Return the table in `data`: a header, then rows, separated by commas, semicolons or tabs.

    UTF-8, or UTF-16 with a byte order mark; quotes double inside quotes; names in `required` and `known` are
    found in any case. Empty lines are skipped, a row of a wrong length or with text after a quote is left out.

    Raises `BadInput` when nothing is there, a column of `required` or the partner of one of `SUBJECTS` is
    missing, a column is there twice, or a quote never ends (the rest of the file would be inside it).
    """
    text = decode(data, source)
    if not text.strip():
        names = ",".join((*required, *known))
        raise BadInput("is empty", path=source, hint=f"it needs a header: {names}")
    body = text.lstrip("\r\n")
    skipped = len(text[: len(text) - len(body)].splitlines())
    # The header's favourite; names rarely hold any of the three.
    delimiter = max(",\t;", key=body.splitlines()[0].count)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
    table = Table(source, [], [], [])
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "end of data" in str(error):
                raise at_line(source, line, "a quote begins here and never ends") from error
            table.refuse(line, f"is not csv ({error})")
            continue
        if not table.columns:
            table.columns = [_column(cell, (*required, *known)) for cell in cells]
            _check_header(table, required, line)
        elif len(cells) == len(table.columns):
            table.rows.append((line, dict(zip(table.columns, cells, strict=True))))
        elif any(cell.strip() for cell in cells):
            table.refuse(line, f"has {len(cells)} columns where the header has {len(table.columns)}")
    if not table.rows and not table.errors:
        raise BadInput("has a header and no rows", path=source)
    return table


def mated_label(row: dict[str, str], source: str, line: int) -> bool:
    """Return whether a row is mated, by its column `mated`, its subjects or both; raises `BadInput`."""
    same = None
    if SUBJECTS[0] in row:
        left, right = (row[name].strip() for name in SUBJECTS)
        if not left or not right:
            raise at_line(source, line, "a subject is empty")
        same = left == right
    if "mated" not in row:
        return bool(same)
    word = row["mated"].strip().lower()
    if word not in MATED | NONMATED:
        raise at_line(source, line, f"'{row['mated']}' in the column 'mated' is neither 1 nor 0")
    said = word in MATED
    if same is not None and same != said:
        raise at_line(source, line, f"'mated' says {int(said)}, the subjects say {int(same)}")
    return said


def read_bytes(path: str | Path) -> bytes:
    """Return what is in the file; raises `NoSuchFile` or `BadInput`."""
    try:
        with open(path, "rb") as file:
            of_unknown_size = not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(MOST_BYTES + 1 if of_unknown_size else -1)
    except FileNotFoundError as error:
        raise NoSuchFile("no such file", path=path) from error
    except OSError as error:
        raise BadInput(f"cannot be read ({reason(error)})", path=path) from error
    if of_unknown_size and len(data) > MOST_BYTES:
        raise BadInput(f"has no end within {MOST_BYTES:,} bytes", path=path)
    return data


def decode(data: bytes, source: str) -> str:
    """Return `data` as text; bytes that are not UTF-8 survive as in file names. Raises `BadInput`."""
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig", "strict" if wide else "surrogateescape")
    except UnicodeDecodeError as error:
        raise BadInput(f"is not text ({error.reason})", path=source) from error
    if "\0" in text:
        raise BadInput("is not text (it holds zero bytes)", path=source)
    return text


def at_line(source: str, line: int, what: str, hint: str = "") -> BadInput:
    """Return the error of one line of a file."""
    return BadInput(f"line {line}: {what}", path=source, hint=hint)


def _column(cell: str, names: Sequence[str]) -> str:
    name = cell.strip()
    return name.lower() if name.lower() in names else name


def _check_header(table: Table, required: Sequence[str], line: int) -> None:
    there = table.columns
    partners = [p for p, q in (SUBJECTS, SUBJECTS[::-1]) if q in there and p not in there]
    missing = [name for name in required if name not in there] + partners
    if missing:
        seen = ", ".join(repr(name) for name in there)
        hint = "the first line names the columns"
        raise at_line(table.source, line, f"no column '{missing[0]}' among {seen}", hint)
    twice = [name for name in there if there.count(name) > 1]
    if twice:
        raise at_line(table.source, line, f"the column '{twice[0]}' is there twice")
