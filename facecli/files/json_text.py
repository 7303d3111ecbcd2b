"""JSON from outside, read strictly: what any two readers would not read alike is refused.

This is the one place that parses JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from facecli.errors import BadInput
from facecli.files.tables import read_bytes


def read(path: str | Path) -> Any:
    """Return what is in the JSON file `path`; raises `NoSuchFile`, and `BadInput` as `parse` does."""
    return parse(read_bytes(path), path)


def parse(
    text: str | bytes,
    source: str | os.PathLike[str],
    *,
    line: int | None = None,
    hint: str = "",
    advice: str = "",
) -> Any:
    """Return the value in JSON text, as dicts, lists, texts, numbers, booleans and None.

    `source` is what errors name, with `line` for text that is one line of it; `hint` and `advice` go with them.
    Raises `BadInput`, with the place where there is one, for what is not UTF-8 or not JSON: NaN and Infinity,
    an object with a key twice, a nesting too deep and a number too long are refused too.
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        what = "is not UTF-8 text"
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if line is not None else f"line {error.lineno}, column {error.colno}"
        what = f"is not JSON ({place}: {error.msg})"
    except RecursionError:
        what = "is not JSON (nested too deep)"
    except ValueError as error:
        what = f"is not JSON ({error})"
    where = f"line {line}: " if line is not None else ""
    raise BadInput(where + what, path=source, hint=hint, advice=advice)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
