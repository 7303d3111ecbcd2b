"""What can go wrong, said so that a person can act on it.

Every error that facecli raises on purpose is a `FaceError`: `code` is a stable slug for machines, the text
says what was seen, where, and what to do. Anything else that escapes is a bug (exit code 70).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping

_NO_FILES = re.compile("too many open files|system error number 2[34]$", re.I)
_NO_MEMORY = re.compile(
    "bad_alloc|failed to allocate|can(no|')t allocate|failed to map segment|out of memory", re.I
)


class FaceError(Exception):
    """An error with a stable `code`, a place and an advice.

    `what` is one sentence without a full stop; `path` is the file or value it is about; `hint` is what the
    user can do next. `str(error)` joins them on one line. `advice` is a stable name of the hint for a caller who
    says it in words of its own, as the command line does, and `values` is what it speaks of.
    """

    code = "error"

    def __init__(
        self,
        what: str,
        *,
        path: str | os.PathLike[str] | None = None,
        hint: str = "",
        advice: str = "",
        values: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.path = None if path is None else printable(path)
        self.hint = hint
        self.advice = advice
        self.values = values if values is not None else {}

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path is not None else ""
        advice = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.what}{advice}"

    def record(self) -> dict[str, str]:
        """Return the JSON form of the error: `code` and `message` (without the path, which records carry)."""
        return {"code": self.code, "message": self.what + (f"; {self.hint}" if self.hint else "")}


def printable(path: str | os.PathLike[str]) -> str:
    """Return `path` as text that any UTF-8 stream accepts.

    Bytes of a file name that are not UTF-8 come out as `\\xNN`, so that a record always has a name to show.

    >>> printable("caf\\udce9.jpg")
    'caf\\\\xe9.jpg'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Return `text` as one line that a terminal shows as it is.

    A file's name may hold line breaks, escape sequences, and characters that nobody sees or that turn the order of
    letters around: whatever is not printable stands as its escape in Python.

    >>> one_line("two\\nlines.jpg")
    'two\\\\nlines.jpg'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def reason(error: OSError) -> str:
    """Return why the system refused, as it stands within a sentence.

    >>> reason(PermissionError(13, "Permission denied", "x.jpg"))
    'permission denied'
    """
    return (error.strerror or str(error)).lower()


def did_you_mean(
    name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.5, folder: str = ""
) -> str:
    """Return the `most` names of `known` that are nearest to `name` as a question, or "" where none is near.

    Case counts for nothing. `cutoff` in 0..1 says how near (see `difflib.get_close_matches`); `folder` goes
    before the names of files.

    >>> did_you_mean("DLIP", ["dlib", "vggface2"])
    "did you mean 'dlib'?"
    """
    # Only mistakes ask for it, and its import is felt at every start.
    import difflib

    names = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), names, n=most, cutoff=cutoff)
    quoted = [f"'{printable(os.path.join(folder, names[each]))}'" for each in near]
    return f"did you mean {' or '.join(quoted)}?" if near else ""


class UsageError(FaceError):
    """Options that contradict each other, or a value outside its range."""

    code = "usage"


class NoSuchFile(FaceError):
    """A path that does not exist."""

    code = "no_such_file"


class UnreadableImage(FaceError):
    """A file that is there and cannot be decoded: empty, truncated, not an image, too large, no permission."""

    code = "unreadable"


class EmptyFile(UnreadableImage):
    """A file of no bytes."""


class NoFace(FaceError):
    """An image in which no face was found."""

    code = "no_face"


class SeveralFaces(FaceError):
    """An image with several faces where one was asked for, or a face index that is not there."""

    code = "several_faces"


class LowQuality(FaceError):
    """A face that shows too little to be recognised by: blurred, tiny, dark, covered, turned away, or no face."""

    code = "low_quality"


class BadInput(FaceError):
    """A malformed row, record or file that is not an image: a csv, a JSON contract, a template array."""

    code = "bad_input"


class WeightsMissing(FaceError):
    """Weights that are not on this machine and could not be fetched, or that fail their checksum."""

    code = "weights_missing"


class EmbedderMismatch(FaceError):
    """Templates, a calibration or a database made by another embedder."""

    code = "embedder_mismatch"


class NoCalibration(FaceError):
    """A decision was asked of a model that has no calibration, or at a rate its calibration cannot support."""

    code = "no_calibration"


class Shortage(FaceError):
    """Memory, open files or threads that the system does not give."""

    code = "shortage"


def shortage(error: BaseException) -> Shortage | None:
    """Return the `Shortage` that led to `error`, None if none did.

    Libraries have many ways to say it: a `MemoryError`, an import that breaks off, an allocator's own words.

    >>> str(shortage(RuntimeError("can't start new thread")))
    'the system gives no more threads; raise the limit of processes or of memory'
    """
    here: BaseException | None = error
    while here is not None:
        number = here.errno if isinstance(here, OSError) else None
        if number in (errno.EMFILE, errno.ENFILE) or _NO_FILES.search(str(here)):
            return Shortage("too many files are open", hint="raise their limit", advice="more_files")
        if "can't start new thread" in str(here):
            what = "the system gives no more threads"
            return Shortage(what, hint="raise the limit of processes or of memory", advice="more_threads")
        if isinstance(here, MemoryError) or number == errno.ENOMEM or _NO_MEMORY.search(str(here)):
            return Shortage("there is not enough memory", hint="give the process more", advice="more_memory")
        here = here.__cause__ if here.__cause__ is not None else here.__context__
    return None


class DatabaseError(FaceError):
    """A database folder or its cache that cannot be used."""

    code = "database"
