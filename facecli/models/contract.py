"""Reads the JSON that states a model's input contract: strictly, naming the file and the key of each fault."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecli.errors import BadInput, NoSuchFile
from facecli.files import json_text

Triple = tuple[float, float, float]
Points = tuple[tuple[float, float], ...]

PLAIN = "plain"
ORDERS = ("RGB", "BGR")

MOST_INPUT_PX = 1024
"""Faces have no more, and a batch of chips has to fit into memory."""
MOST_DIM = 1 << 13
"""Of a template, and of what a layer before it gives: twice the largest that anybody published."""
MOST_LAYERS = 8
_MOST_MARGIN = 10.0
_MOST_MEAN, _LEAST_STD, _MOST_STD = 1e6, 1e-6, 1e6
"""Beyond these float32 has no numbers left for pixels."""


@dataclass(frozen=True)
class Contract:
    """How a face becomes a network's input; the fields mean what they mean in `ModelSpec`."""

    input_size: int
    template: Points | None
    channel_order: str
    mean: Triple
    std: Triple
    crop_margin: float
    mirror: bool

    def record(self) -> dict[str, Any]:
        """Return the JSON form that `read_contract` reads."""
        return {
            "input_size": self.input_size,
            "template": PLAIN if self.template is None else [list(point) for point in self.template],
            "channel_order": self.channel_order,
            "mean": list(self.mean),
            "std": list(self.std),
            "crop_margin": self.crop_margin,
            "mirror": self.mirror,
        }


class Table:
    """A JSON object that is read key by key; `end` refuses the keys nobody asked for."""

    def __init__(self, values: object, path: Path | None, prefix: str = "") -> None:
        if not isinstance(values, dict):
            raise BadInput(f"{prefix.rstrip('.') or 'the file'} must be a JSON object", path=path)
        self.values: dict[str, Any] = values
        self.path = path
        self.prefix = prefix
        self.asked: set[str] = set()

    def fault(self, key: str, what: str) -> BadInput:
        return BadInput(f"'{self.prefix}{key}' {what}", path=self.path)

    def has(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str) -> Any:
        """Return the value of a key that must be there."""
        self.asked.add(key)
        if key not in self.values:
            raise self.fault(key, "is missing")
        return self.values[key]

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self.values:
            return default
        value = self.get(key)
        if not isinstance(value, str):
            raise self.fault(key, f"must be a text, not {_said(value)}")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self.fault(key, f"must be {' or '.join(choices)}, not '{value}'")
        return value

    def whole(self, key: str, most: int | None = None) -> int:
        """Return a whole number above zero, at most `most`."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.fault(key, f"must be a whole number above zero, not {_said(value)}")
        if most is not None and value > most:
            raise self.fault(key, f"must be at most {most}, not {value}")
        return value

    def number(self, key: str, default: float) -> float:
        if key not in self.values:
            return default
        return self._number(key, self.get(key))

    def flag(self, key: str, default: bool) -> bool:
        if key not in self.values:
            return default
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.fault(key, f"must be true or false, not {_said(value)}")
        return value

    def triple(self, key: str) -> Triple:
        """Return three numbers; one alone stands for all channels."""
        value = self.get(key)
        values = value if isinstance(value, list) else [value] * 3
        if len(values) != 3:
            raise self.fault(key, f"must be a number or three, not {len(values)}")
        first, second, third = (self._number(key, item) for item in values)
        return first, second, third

    def points(self, key: str) -> Points | None:
        """Return five points in px, or None for "plain"."""
        value = self.get(key)
        if value == PLAIN:
            return None
        if not isinstance(value, list) or len(value) != 5:
            raise self.fault(key, f'must be five [x, y] points in px or "{PLAIN}"')
        points = []
        for point in value:
            if not isinstance(point, list) or len(point) != 2:
                raise self.fault(key, f"must hold [x, y] points, not {_said(point)}")
            points.append((self._number(key, point[0]), self._number(key, point[1])))
        return tuple(points)

    def vector(self, key: str) -> tuple[float, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not value:
            raise self.fault(key, "must be a list of numbers")
        return tuple(self._number(key, item) for item in value)

    def sizes(self, key: str) -> tuple[int, ...]:
        """Return the sizes of layers, whole numbers above zero; the list may be empty."""
        value = self.get(key)
        if not isinstance(value, list | tuple):
            raise self.fault(key, "must be a list of whole numbers")
        if any(isinstance(item, bool) or not isinstance(item, int) or item < 1 for item in value):
            raise self.fault(key, f"must hold whole numbers above zero, not {_said(value)}")
        if len(value) > MOST_LAYERS or max(value, default=0) > MOST_DIM:
            raise self.fault(
                key, f"must hold at most {MOST_LAYERS} numbers up to {MOST_DIM}, not {_said(value)}"
            )
        return tuple(value)

    def table(self, key: str) -> Table:
        return Table(self.get(key), self.path, f"{self.prefix}{key}.")

    def end(self) -> None:
        unknown = sorted(set(self.values) - self.asked)
        if unknown:
            known = ", ".join(sorted(self.asked))
            raise BadInput(
                f"unknown key '{self.prefix}{unknown[0]}'", path=self.path, hint=f"known here are {known}"
            )

    def _number(self, key: str, value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= sys.float_info.max
        ):
            raise self.fault(key, f"must be a number, not {_said(value)}")
        return float(value)


def _said(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def read_table(path: Path, kind: str, version: int, *, stated: bool = True) -> Table:
    """Return the JSON object in `path` after checking its `format` and `version`.

    Unless `stated` they may be left out. Raises `NoSuchFile`, `BadInput`.
    """
    try:
        values = json_text.read(path)
    except NoSuchFile as error:
        raise NoSuchFile("no such contract file", path=path) from error
    table = Table(values, path)
    if not stated:
        # Written by hand: whoever says nothing means the one of today.
        table.values = {"format": kind, "version": version} | table.values
    written = table.text("format")
    if written != kind:
        raise table.fault("format", f"is '{written}' where '{kind}' is expected")
    number = table.whole("version")
    if number != version:
        raise BadInput(
            f"'version' is {number}; this facecli reads {version}", path=path, hint="use a matching facecli"
        )
    return table


def read_contract(table: Table) -> Contract:
    """Take the keys of a contract out of `table`; `crop_margin` and `mirror` may be left out.

    Raises `BadInput` for a key that is missing, of the wrong type or length, or out of its range.
    """
    contract = Contract(
        input_size=table.whole("input_size", MOST_INPUT_PX),
        template=table.points("template"),
        channel_order=table.choice("channel_order", ORDERS),
        mean=table.triple("mean"),
        std=table.triple("std"),
        crop_margin=table.number("crop_margin", 0.0),
        mirror=table.flag("mirror", False),
    )
    if min(contract.std) <= 0:
        raise table.fault("std", "must be above zero")
    if not _LEAST_STD <= min(contract.std) <= max(contract.std) <= _MOST_STD:
        raise table.fault("std", f"must be between {_LEAST_STD:g} and {_MOST_STD:g}")
    if max(map(abs, contract.mean)) > _MOST_MEAN:
        raise table.fault("mean", f"must be between {-_MOST_MEAN:g} and {_MOST_MEAN:g}")
    if contract.crop_margin < 0:
        raise table.fault("crop_margin", "must not be below zero")
    if contract.crop_margin > _MOST_MARGIN:
        raise table.fault("crop_margin", f"must be at most {_MOST_MARGIN:g}")
    if contract.template is not None:
        _check_template(contract.template, contract.input_size, table)
    return contract


def _check_template(points: Points, size: int, table: Table) -> None:
    if any(abs(x) > 10 * size for point in points for x in point):
        raise table.fault("template", f"must lie on the chip of {size} px or near it")
    widest = max(max(axis) - min(axis) for axis in zip(*points, strict=True))
    if widest < size / 50:
        raise table.fault("template", "must be points apart from each other")
