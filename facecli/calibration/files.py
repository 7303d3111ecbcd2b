"""Calibrations as JSON files: reading with every value checked, writing whole, installing, finding.

One calibration is in force for an embedder: the one installed by the user, else the one that came with facecli.
The latter is never written to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from facecli.arrays import Floats
from facecli.calibration.calibration import (
    CROSS_FITTED,
    IN_SAMPLE,
    OTHER_PEOPLE,
    Calibration,
    OperatingPoint,
    Provenance,
    Quality,
    check,
)
from facecli.errors import BadInput, NoCalibration, NoSuchFile, UsageError, reason
from facecli.files import json_text
from facecli.files.atomic import write_atomic
from facecli.files.tables import read_bytes
from facecli.stats.curve import Counts, ScoreCurve
from facecli.stats.intervals import Interval
from facecli.stats.probability import ReliabilityBin, ScoreMap

FORMAT = "facecli calibration"
VERSION = 1
REMAKE = "make it again"
MOST = 2**62
"""Of what is counted: sums and differences of counts fit an int64."""
LARGEST = 1e100
"""Of numbers: sums and squares are numbers too."""

# Found without importlib.resources, whose import would be felt at every start.
SHIPPED = Path(__file__).with_name("shipped")
"""The calibrations that came with facecli."""


@dataclass(frozen=True)
class Installed:
    """Where a calibration was installed, and what it replaced: a calibration in force before, or None."""

    path: Path
    replaced: Calibration | None


def to_json(calibration: Calibration) -> str:
    """Return the calibration as JSON text that `from_json` reads back to the same numbers."""
    c = calibration
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "embedder_id": c.embedder_id,
        "notice": c.notice,
        "min_quality": c.min_quality,
        "basis": c.basis,
        "facecli_version": c.facecli_version,
        "command": c.command,
        "seed": c.seed,
        "chosen_on": _provenance_document(c.chosen_on),
        "reported_on": _provenance_document(c.reported_on) if c.reported_on is not None else None,
        "score_map": asdict(c.score_map),
        "quality": asdict(c.quality),
        "points": [asdict(p) for p in c.points],
        "curve": {
            "thresholds": c.chosen.thresholds.tolist(),
            "chosen": _curve_document(c.chosen),
            "reported": _curve_document(c.reported),
        },
    }
    text = json.dumps(document, indent=1, allow_nan=False)
    # Lists of numbers on one line each, a third of the size. Text is not touched: in JSON it has no line feed.
    return re.sub(r"\[\n[^][{}\"]*\]", lambda numbers: re.sub(r"\s+", "", numbers[0]), text) + "\n"


def from_json(text: str | bytes, *, path: str | Path) -> Calibration:
    """Return the calibration in `text`; `path` is what errors name.

    Raises `BadInput`, with the key, for anything that is not a whole and sound calibration.
    """
    document = json_text.parse(text, path, hint=REMAKE, advice="recalibrate")
    top = _Reader(document, "", path)
    if top.text("format") != FORMAT:
        raise _unsound("is not a calibration of facecli", path)
    if top.whole("version") != VERSION:
        raise _unsound(f"has version {top.whole('version')}, this facecli reads {VERSION}", path)
    if top.text("basis") not in (OTHER_PEOPLE, CROSS_FITTED, IN_SAMPLE):
        raise top.wrong("basis", "one of the three known")
    curve = top.inside("curve")
    thresholds = curve.array("thresholds", np.float64)
    if thresholds.size == 0 or (np.diff(thresholds) <= 0).any():
        raise curve.wrong("thresholds", "a rising list of numbers")
    reported_on = None if document.get("reported_on") is None else top.inside("reported_on")
    quality = top.inside("quality")
    held_out = quality.inside("held_out_cllr")
    return Calibration(
        embedder_id=top.text("embedder_id"),
        basis=top.text("basis"),
        chosen=_read_curve(curve.inside("chosen"), thresholds),
        reported=_read_curve(curve.inside("reported"), thresholds),
        points=tuple(_read_point(p) for p in top.items("points")),
        score_map=_read_map(top.inside("score_map")),
        quality=Quality(
            cllr=quality.number("cllr"),
            min_cllr=quality.number("min_cllr"),
            auc=quality.number("auc"),
            held_out_cllr={method: held_out.number(method) for method in held_out.value},
            reliability=tuple(
                ReliabilityBin(**_read_fields(row, ReliabilityBin)) for row in quality.items("reliability")
            ),
        ),
        chosen_on=Provenance(**_read_fields(top.inside("chosen_on"), Provenance)),
        reported_on=None if reported_on is None else Provenance(**_read_fields(reported_on, Provenance)),
        seed=top.whole("seed"),
        facecli_version=top.text("facecli_version"),
        command=top.text("command"),
        notice=top.text("notice"),
        # Older files have none: they are of networks whose outputs tell no quality.
        min_quality=top.number("min_quality") if "min_quality" in top.value else 0.0,
    )


def load(path: str | Path) -> Calibration:
    """Return the calibration in the file `path`; raises `NoSuchFile` and `BadInput`."""
    try:
        data = read_bytes(path)
    except NoSuchFile as error:
        raise NoSuchFile(
            "no such calibration", path=path, hint="calibrate first", advice="make_calibration"
        ) from error
    return from_json(data, path=path)


def save(path: str | Path, calibration: Calibration) -> None:
    """Write `calibration` to `path`, whole or not at all, making its folder; raises `UsageError`."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, to_json(calibration).encode())
    except OSError as error:
        raise UsageError(f"cannot be written ({reason(error)})", path=path) from error


def find_calibration(embedder_id: str, user_dir: Path) -> Calibration | None:
    """Return the calibration in force for the embedder, or None when nobody made one.

    Raises `BadInput` for a damaged one and `EmbedderMismatch` for one that was put under a wrong name: the
    next best is not silently taken.
    """
    path = installed_path(embedder_id, user_dir)
    calibration = load(path) if path.exists() else shipped(embedder_id)
    if calibration is not None:
        check(calibration, embedder_id)
    return calibration


def shipped(embedder_id: str) -> Calibration | None:
    """Return the calibration that came with facecli for the embedder, or None."""
    name = f"{_safe(embedder_id)}.json"
    file = SHIPPED / name
    return (
        from_json(file.read_bytes(), path=f"facecli/calibration/shipped/{name}") if file.is_file() else None
    )


def install(calibration: Calibration, user_dir: Path) -> Installed:
    """Put `calibration` in force for its embedder; return where, and what was in force before.

    A damaged predecessor is replaced like a missing one.
    """
    path = installed_path(calibration.embedder_id, user_dir)
    try:
        replaced = find_calibration(calibration.embedder_id, user_dir)
    except BadInput:
        replaced = None
    save(path, calibration)
    return Installed(path, replaced)


def restore(embedder_id: str, user_dir: Path) -> Calibration | None:
    """Remove the user's calibration; return the shipped one that is in force again, None without one.

    Raises `NoCalibration` when none was installed.
    """
    path = installed_path(embedder_id, user_dir)
    try:
        path.unlink()
    except FileNotFoundError as error:
        raise NoCalibration("no calibration is installed here", path=path) from error
    return shipped(embedder_id)


def installed_path(embedder_id: str, user_dir: Path) -> Path:
    """Return where the user's calibration of the embedder lies, if there is one."""
    return user_dir / "calibrations" / f"{_safe(embedder_id)}.json"


def _unsound(what: str, path: str | Path) -> BadInput:
    return BadInput(what, path=path, hint=REMAKE, advice="recalibrate")


class _Reader:
    """A JSON object at the place `where`, whose values are asked for by key and kind."""

    def __init__(self, value: Any, where: str, path: str | Path) -> None:
        self.value, self.where, self.path = value, where, path
        if not isinstance(value, dict):
            raise BadInput(f"the key '{where}' is not an object" if where else "is not an object", path=path)

    def wrong(self, key: str, kind: str) -> BadInput:
        place = f"{self.where}.{key}" if self.where else key
        problem = "is missing" if key not in self.value else f"is not {kind}"
        return _unsound(f"the key '{place}' {problem}", self.path)

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def whole(self, key: str) -> int:
        value = self.value.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST:
            raise self.wrong(key, "a whole number, 0 or more")
        return value

    def number(self, key: str) -> float:
        value = self.value.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise self.wrong(key, "a number")
        return float(value)

    def array(self, key: str, dtype: type) -> Any:
        value = self.value.get(key)
        if isinstance(value, list):
            try:
                array = np.array(value if value else [], dtype=None if value else dtype)
            except (ValueError, OverflowError):
                raise self.wrong(key, "a list of numbers") from None
            kinds = "if" if dtype is np.float64 else "i"
            if array.ndim == 1 and (array.dtype.kind in kinds or not value) and (abs(array) <= LARGEST).all():
                return array.astype(dtype)
        raise self.wrong(key, "a list of numbers" if dtype is np.float64 else "a list of whole numbers")

    def number_or_null(self, key: str) -> float | None:
        return None if self.value.get(key, 0) is None else self.number(key)

    def bounds(self, key: str) -> Interval:
        pair = self.array(key, np.float64)
        if pair.size != 2 or not 0 <= pair[0] <= pair[1] <= 1:
            raise self.wrong(key, "the two bounds of a rate")
        return float(pair[0]), float(pair[1])

    def words(self, key: str) -> tuple[str, ...]:
        # Marks: one string, which costs nothing to read where nobody asks.
        return tuple(self.text(key).split())

    def inside(self, key: str) -> _Reader:
        if not isinstance(self.value.get(key), dict):
            raise self.wrong(key, "an object")
        return _Reader(self.value[key], f"{self.where}.{key}" if self.where else key, self.path)

    def items(self, key: str) -> list[_Reader]:
        values = self.value.get(key)
        if not isinstance(values, list):
            raise self.wrong(key, "a list")
        place = f"{self.where}.{key}" if self.where else key
        return [_Reader(v, f"{place}[{k}]", self.path) for k, v in enumerate(values)]


_READ: dict[Any, Callable[[_Reader, str], Any]] = {
    str: _Reader.text,
    int: _Reader.whole,
    float: _Reader.number,
    float | None: _Reader.number_or_null,
    Interval: _Reader.bounds,
    tuple[str, ...]: _Reader.words,
}
"""How a field of a flat dataclass is read, by its type."""
_hints = cache(get_type_hints)  # asked once for each of many rows


def _read_fields(reader: _Reader, kind: type) -> dict[str, Any]:
    """Return the values of a flat dataclass by the types of its fields."""
    return {key: _READ[hint](reader, key) for key, hint in _hints(kind).items()}


def _read_point(reader: _Reader) -> OperatingPoint:
    point = OperatingPoint(**_read_fields(reader, OperatingPoint))
    for key in ("fmr", "fnmr", "chosen_fmr", "chosen_fnmr"):
        if not 0 <= getattr(point, key) <= 1:
            raise reader.wrong(key, "a rate")
    return point


def _read_map(reader: _Reader) -> ScoreMap:
    method = reader.text("method")
    values, scores = reader.array("values", np.float64), reader.array("scores", np.float64)
    if method == "logistic" and (values.size != 2 or values[1] < 0):
        raise reader.wrong("values", "an intercept and a slope of 0 or more")
    if method == "isotonic" and (
        scores.size == 0
        or values.size != scores.size
        or (np.diff(scores) < 0).any()
        or (np.diff(values) < 0).any()
    ):
        raise reader.wrong("values", "a rising list, one for each score")
    if method not in ("logistic", "isotonic"):
        raise reader.wrong("method", "logistic or isotonic")
    low, high = reader.number("low"), reader.number("high")
    if low > high:
        raise reader.wrong("high", "at least 'low'")
    return ScoreMap(method, tuple(values.tolist()), tuple(scores.tolist()), low, high)


def _read_curve(reader: _Reader, thresholds: Floats) -> ScoreCurve:
    n_mated, n_nonmated = reader.whole("n_mated"), reader.whole("n_nonmated")
    if n_mated < 1 or n_nonmated < 1:
        raise reader.wrong("n_mated" if n_mated < 1 else "n_nonmated", "1 or more")
    false_matches, misses = (reader.array(key, np.int64) for key in ("false_matches", "misses"))
    _check_counts(reader, "false_matches", -false_matches + n_nonmated, n_nonmated, thresholds.size)
    _check_counts(reader, "misses", misses, n_mated, thresholds.size)
    return ScoreCurve(thresholds, false_matches, misses, n_mated, n_nonmated, complete=False)


def _check_counts(reader: _Reader, key: str, rising: Counts, n: int, size: int) -> None:
    if rising.size != size or (np.diff(rising) < 0).any() or rising[0] < 0 or rising[-1] > n:
        raise reader.wrong(key, "a list of counts, one for each threshold, that goes one way")


def _curve_document(curve: ScoreCurve) -> dict[str, Any]:
    return {
        "n_mated": curve.n_mated,
        "n_nonmated": curve.n_nonmated,
        "false_matches": curve.false_matches.tolist(),
        "misses": curve.misses.tolist(),
    }


def _provenance_document(provenance: Provenance) -> dict[str, Any]:
    document = asdict(provenance)
    for key in ("image_marks", "subject_marks"):
        document[key] = " ".join(document[key])
    return document


def _safe(embedder_id: str) -> str:
    # The id names a file.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", embedder_id):
        raise UsageError(
            f"'{embedder_id}' is not an embedder id", hint="letters, digits, '.', '_' and '-' only"
        )
    return embedder_id
