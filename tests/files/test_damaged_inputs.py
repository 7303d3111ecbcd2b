"""Whatever a file is damaged into, its reader gives an error of facecli or reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facecli.calibration import files
from facecli.calibration.fit import calibrate, describe
from facecli.cli.inputs import _named
from facecli.errors import BadInput, FaceError
from facecli.models.contract import read_contract, read_table
from facecli.stats.comparisons import Comparisons
from facecli.templates.blocks import read_blocks
from facecli.templates.reading import read_templates
from facecli.training.config import TrainConfig
from facecli.training.run_folder import RunFolder
from facecli.trials.pairs import read_pairs
from facecli.trials.score_table import read_scores

ID, DIM = "model-0123abcd", 4
TEMPLATE = [0.5, 0.5, -0.5, 0.5]
RECORD = {
    **{"schema": "facecli.embed/1", "path": "p.jpg", "subject": "Ada", "face": 0, "n_faces": 1, "turned": 0},
    **{
        "box": [1, 2, 3, 4],
        "landmarks": [[1.0, 2.0]] * 5,
        "probability": 0.9,
        "quality": 90.0,
        "strictness": 0.0,
    },
    **{"embedder_id": ID, "embedding": TEMPLATE},
}
ROWS = (
    "row,path,face,n_faces,left,top,right,bottom,probability,embedder_id,quality,strictness,turned,subject\n"
    f"0,p.jpg,0,1,1,2,3,4,0.9,{ID},90,0,0,Ada\n1,q.jpg,1,2,1,2,3,4,0.9,{ID},,,,Ada\n"
)
CONTRACT = {
    **{"format": "facecli model", "version": 1, "input_size": 112, "channel_order": "RGB", "mean": [1, 2, 3]},
    **{"std": 128, "template": [[30, 50], [80, 50], [56, 70], [40, 90], [70, 90]], "crop_margin": 0.1},
}
NASTY = [
    *(
        "NaN",
        "1e400",
        "-1e308",
        "1e308",
        "9" * 400,
        "9" * 5000,
        str(2**63),
        "-1",
        "0",
        "0.5",
        "true",
        "null",
        '"x"',
    ),
    *(
        '"\\ud800"',
        '"\\u0000"',
        "[]",
        "{}",
        "[[1]]",
        "[" * 500,
        "[" * 500 + "]" * 500,
        "[1e400]",
        "[0.5, " + "9" * 400 + "]",
    ),
]
"""JSON in place of a value."""
CELLS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e309",
    "1e308",
    "-1e308",
    "9" * 5000,
    '"',
    "\0",
    "\ud800",
    "٣",
    "x" * 140_000,
]
RUN = TrainConfig(data=Path("d"), out=Path("o"))


def calibration() -> bytes:
    rng = np.random.default_rng(3)
    similarity = np.concatenate([rng.normal(0.6, 0.2, 50), rng.normal(0.1, 0.2, 200)])
    data = Comparisons(similarity, np.arange(250) < 50)
    return files.to_json(calibrate(data, describe(data, "x"), embedder_id=ID, replicates=10)).encode()


def npy() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }".ljust(117) + b"\n"
    return (
        b"\x93NUMPY\x01\x00"
        + len(header).to_bytes(2, "little")
        + header
        + np.array(TEMPLATE * 2, "<f4").tobytes()
    )


def attempt(read: Callable[[], object]) -> None:
    """Read a file; errors of facecli are right."""
    with suppress(FaceError):
        read()


def templates(path: Path) -> None:
    for read in (read_templates, read_blocks):
        attempt(lambda read=read: list(read(path, embedder_id=ID, dim=DIM)))


READERS = {
    "x.jsonl": ((json.dumps(RECORD) + "\n").encode() * 2, templates),
    "x.npy": (npy(), templates),
    "x.csv": (ROWS.encode(), lambda path: templates(path.with_suffix(".npy"))),
    "pairs.csv": (
        b"left,right,mated,left_subject,right_subject\na.jpg,b.jpg,1,A,A\na.jpg,c.jpg,0,A,C\n",
        read_pairs,
    ),
    "pairs.txt": (b"1\t1\nAda\t1\t4\nAda\t1\tBob\t2\n", read_pairs),
    "scores.csv": (b"similarity,mated\n0.9,1\n0.2,0\n-inf,1\n", read_scores),
    "calibration.json": (calibration(), files.load),
    "contract.json": (
        json.dumps(CONTRACT).encode(),
        lambda path: read_contract(read_table(path, "facecli model", 1)),
    ),
    "config.json": (
        json.dumps(RUN.record() | {"data_digest": "d"}).encode(),
        lambda path: RunFolder(path.parent).begin(RUN, "d", resume=True),
    ),
}


@st.composite
def damaged(draw, name: str) -> bytes:
    """A valid file with a few bytes, cells or values changed."""
    data = READERS[name][0]
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(["bytes", "cut", "again", "value"]))
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 12)))
        if way == "bytes":
            data = data[:start] + draw(st.binary(max_size=6)) + data[stop:]
        elif way == "cut":
            data = data[:start]
        elif way == "again":
            data = data[:stop] + data[start:]
        else:
            # A value ends where the next separator stands.
            ends = b",\n\t}]" if name.endswith(("json", "jsonl")) else b",\n\t"
            begin = 1 + max(data.rfind(bytes([byte]), 0, start) for byte in b",:\n\t[")
            end = min(
                [at for at in (data.find(bytes([byte]), begin) for byte in ends) if at >= 0],
                default=len(data),
            )
            other = draw(st.sampled_from(NASTY + CELLS)).encode("utf-8", "surrogatepass")
            data = data[:begin] + other + data[max(begin, end) :]
    return data


def untouched(folder: Path) -> None:
    for name, (data, _) in READERS.items():
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_the_undamaged_files_are_read(name, tmp_path):
    untouched(tmp_path)
    READERS[name][1](tmp_path / name)
    if name in ("x.jsonl", "x.npy"):
        assert len(list(read_templates(tmp_path / name, embedder_id=ID, dim=DIM))) == 2
        assert sum(len(block.paths) for block in read_blocks(tmp_path / name, embedder_id=ID, dim=DIM)) == 2


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings(
    "ignore:Reading `.npy` or `.npz` file required additional header parsing:UserWarning"
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_of_facecli_or_is_read(name, tmp_path, data):
    untouched(tmp_path)
    (tmp_path / name).write_bytes(data.draw(damaged(name)))
    attempt(lambda: READERS[name][1](tmp_path / name))


def test_an_array_whose_header_python_cannot_parse(tmp_path):
    untouched(tmp_path)
    for header in (
        b"(" * 8192,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 128), }\n",
        b"-" * 5000,
    ):
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
        with pytest.raises(BadInput, match="x.npy"):
            list(read_templates(tmp_path / "x.npy", embedder_id=ID, dim=DIM))


def test_an_archive_is_no_array(tmp_path):
    untouched(tmp_path)
    with open(tmp_path / "x.npy", "wb") as file:
        np.savez(file, a=np.zeros((2, 4), np.float32))
    with pytest.raises(BadInput, match="not an array of templates but an archive"):
        list(read_templates(tmp_path / "x.npy", embedder_id=ID, dim=DIM))


def test_a_face_of_too_many_digits(tmp_path):
    untouched(tmp_path)
    (tmp_path / "x.csv").write_text(ROWS.replace("p.jpg,0,", f"p.jpg,{'9' * 40},"))
    with pytest.raises(BadInput, match=r"row 0 cannot be read \('face' is no count from 0 to 1e\+06\)"):
        list(read_templates(tmp_path / "x.npy", embedder_id=ID, dim=DIM))


def test_scores_whose_squares_are_no_numbers_are_left_out(tmp_path):
    table = tmp_path / "s.csv"
    table.write_text("similarity,mated\n1e308,1\n-1e308,0\n1e309,1\n0.5,1\n")
    read = read_scores(table)
    assert [error.what for error in read.errors] == [
        f"line {line}: '{cell}' is not a similarity"
        for line, cell in ((2, "1e308"), (3, "-1e308"), (4, "1e309"))
    ]
    assert len(read.comparisons) == 1


def test_a_line_that_no_path_can_be_is_refused():
    assert _named(1, "a.jpg") == Path("a.jpg")
    with pytest.raises(BadInput, match="line 3: is neither the path of a photo nor a record"):
        _named(3, "[" * 50_000)
