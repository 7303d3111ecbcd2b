"""The sink: the same records in every format, files that appear whole, notes that keep out of the way."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facecli.cli.app import app
from facecli.cli.notes import Notes
from facecli.cli.output import Output, choose_format, error_text
from facecli.errors import NoFace, UsageError, one_line

COLUMNS = ["path", "match", "similarity", "box", "error"]
RECORDS = [
    {"path": "a b.jpg", "match": True, "similarity": 0.92766049, "box": [1.5, 2], "more": {"x": None}},
    {"path": 'caf\u00e9,\t"q"\nline.jpg', "match": False, "similarity": 1e-05, "box": None},
    {"path": "broken.jpg", "error": {"code": "no_face", "message": "no face found"}},
]


def flatten(record):
    return [{**record, "error": error_text(record)}]


def written(form, records=RECORDS, path=None):
    with Output(COLUMNS, form=form, path=path, flatten=flatten) as sink:
        for record in records:
            sink.emit(record)


def test_jsonl_keeps_the_whole_record(capsys):
    written("jsonl")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == RECORDS
    assert "caf\u00e9" in lines[1]


@pytest.mark.parametrize(("form", "dialect"), [("csv", "excel"), ("tsv", "excel-tab")])
def test_csv_and_tsv_have_the_columns_and_a_line_a_row(form, dialect, capsys):
    written(form)
    text = capsys.readouterr().out
    assert text.splitlines()[0] == {"csv": ",", "tsv": "\t"}[form].join(COLUMNS)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), dialect=dialect))
    assert [row["path"] for row in rows] == [one_line(record["path"]) for record in RECORDS]
    assert [row["match"] for row in rows] == ["true", "false", ""]
    assert [row["similarity"] for row in rows] == ["0.92766049", "1e-05", ""]
    assert [row["box"] for row in rows] == ["[1.5, 2]", "", ""]
    assert rows[2]["error"] == "no_face: no face found"


def test_the_table_is_for_eyes(capsys):
    written("table")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].split() == COLUMNS
    assert lines[1].split() == ["a", "b.jpg", "yes", "0.9277", "[1.5,", "2]"]
    assert lines[2].startswith('caf\u00e9,\\t"q"\\nline.jpg')
    assert lines[3].endswith("no_face: no face found")
    assert len(lines) == 4


@pytest.mark.parametrize("folders", [1, 9, 17])
def test_an_error_never_breaks_the_names_beside_it(folders, capsys):
    long = [{"path": "folder/" * folders + "photo.jpg", "similarity": 0.5}]
    long.append({"path": "bad.jpg", "error": {"code": "no_face", "message": "no face found here " * 20}})
    written("table", long)
    lines = capsys.readouterr().out.splitlines()
    assert long[0]["path"] in lines[1]
    assert lines[2].startswith("bad.jpg")
    assert all(len(line) <= 160 for line in lines)
    assert " ".join(" ".join(lines[2:]).split()).endswith("no face found here")


def test_one_record_upright_is_a_line_a_key(capsys):
    with Output(COLUMNS, form="table", flatten=flatten, upright=True) as sink:
        sink.emit(RECORDS[0])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["path", "a", "b.jpg"],
        ["match", "yes"],
        ["similarity", "0.9277"],
        ["box", "[1.5,", "2]"],
    ]


def test_a_table_shows_no_empty_column_and_no_empty_table(capsys):
    written("table", [{"path": "a", "match": True}])
    assert capsys.readouterr().out.split() == ["path", "match", "a", "yes"]
    written("table", [])
    assert capsys.readouterr().out == ""


def test_a_table_shows_markup_as_it_is(capsys):
    written("table", [{"path": "[red]x[/red].jpg", "match": True}])
    assert "[red]x[/red].jpg" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_no_records_leave_a_header(form, capsys):
    written(form, [])
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("form", "name", "expected"),
    [
        ("auto", "x.csv", "csv"),
        ("auto", "x.TSV", "tsv"),
        ("auto", "x.jsonl", "jsonl"),
        ("auto", "x.ndjson", "jsonl"),
        ("auto", "x.txt", "table"),
        ("auto", "x", "jsonl"),
        ("csv", "x.jsonl", "csv"),
        ("auto", None, "jsonl"),
    ],
)
def test_the_ending_sets_the_format_unless_told(form, name, expected):
    assert choose_format(form, None if name is None else Path(name)) == expected


def test_auto_is_a_table_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert choose_format("auto", None) == "table"


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "table"])
def test_a_file_holds_what_stdout_would(form, tmp_path, capsys):
    written(form)
    expected = capsys.readouterr().out
    path = tmp_path / "out"
    written(form, path=path)
    found = path.read_bytes().decode()
    assert [line.rstrip() for line in found.splitlines()] == [line.rstrip() for line in expected.splitlines()]
    assert capsys.readouterr().out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON compliant"):
        written("jsonl", [RECORDS[0], {"similarity": float("inf")}], path=path)
    assert path.read_text() == "old"
    with Output(COLUMNS, path=path) as sink:
        sink.emit(RECORDS[0])
        assert path.read_text() == "old"
    assert json.loads(path.read_text()) == RECORDS[0]
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_pipe_is_written_to_and_never_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    written("jsonl", RECORDS[:1], path=path)
    assert json.loads(os.read(reader, 10_000)) == RECORDS[0]
    os.close(reader)
    assert path.is_fifo()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("name", [".", "no/such/x.csv", "file/x.csv"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        Output(COLUMNS, path=tmp_path / name).__enter__()


def test_numbers_that_json_does_not_know_are_a_bug_and_not_written(capsys):
    with pytest.raises(ValueError, match="not JSON compliant"):
        written("jsonl", [{"path": "x", "similarity": float("nan")}])
    assert capsys.readouterr().out == ""


def test_an_error_is_shown_by_its_code_and_message():
    record = {"path": "x.jpg", "error": NoFace("no face found", path="x.jpg", hint="look again").record()}
    assert error_text(record) == "no_face: no face found; look again"
    assert error_text({"path": "x"}) is None


def test_one_line_moves_no_cursor():
    assert one_line("a\nb\x1b[2J\r\u2028caf\u00e9 \u4eba") == "a\\nb\\x1b[2J\\r\\u2028caf\u00e9 \u4eba"


def test_notes_go_to_stderr_and_quiet_keeps_warnings(capsys):
    for quiet in (False, True):
        notes = Notes(quiet)
        notes.say("said")
        notes.warn("two\nlines")
        with notes.progress("working") as tell:
            tell(1, 2)
        found = capsys.readouterr()
        assert found.out == ""
        assert found.err == ("" if quiet else "facecli: said\n") + "facecli: warning: two\\nlines\n"


def shown_on_a_terminal(monkeypatch, work, patience=0.0):
    """Return what `work` writes to stderr where that is a terminal."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("facecli.cli.notes.PATIENCE_SECONDS", 0)
        monkeypatch.setattr("facecli.cli.notes.PATIENCE_SECONDS", patience)
        work()
        stream.flush()
    monkeypatch.undo()
    os.close(theirs)
    found = b""
    while True:
        try:
            found += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    return found.decode()


@pytest.mark.parametrize("size", [False, True])
def test_progress_shows_how_far_it_is_on_a_terminal(size, monkeypatch):
    def work():
        with Notes().progress("enrolling", size=size) as tell:
            for done in range(1, 4):
                tell(done, 3)

    shown = shown_on_a_terminal(monkeypatch, work)
    assert "enrolling" in shown
    assert "3/3" in shown


def test_progress_without_a_total_and_without_anything_to_do(monkeypatch):
    def unknown():
        with Notes().progress("embedding") as tell:
            tell(7, None)

    def nothing():
        with Notes().progress("embedding"):
            pass

    assert "7/?" in shown_on_a_terminal(monkeypatch, unknown)
    assert shown_on_a_terminal(monkeypatch, nothing) == ""


def test_work_that_is_done_at_once_shows_no_progress(monkeypatch):
    def quick():
        with Notes().progress("embedding") as tell:
            tell(7, 7)

    assert shown_on_a_terminal(monkeypatch, quick, patience=1.0) == ""


OBEYED = {
    "escape sequence": "\x1b[31m\x1b]0;title\x07",
    "C0": "a\bb\rc\td\x00",
    "DEL and C1": "\x7f\x85\x9b2J",
    "turned around": "\u202egpj.exe\u202c \u2066a\u2069 \u061c\u200e\u200f",
    "not to be seen": "a\u200bb\u2060c\ufeffd\u00ade\U000e0041",
    "line breaks": "a\nb\u2028c\u2029d",
    "half a character": "a\ud800b\udce9c",
}


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "table"])
@pytest.mark.parametrize("kind", OBEYED)
def test_no_format_passes_on_what_a_terminal_obeys(kind, form, capsys):
    name = OBEYED[kind]
    error = {"code": "unreadable", "message": f"{name} is no photo"}
    record = {"path": name, "box": [name], "more": {name: name}, "error": error}
    written(form, [record])
    shown = capsys.readouterr().out
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    if form == "jsonl":
        assert json.loads(shown) == record
    elif form != "table":
        assert len(shown.splitlines()) == 2
        assert one_line(name) in shown


@pytest.mark.parametrize(
    "command",
    [
        ["verify", "--no{}"],
        ["verify", "a.jpg", "b.jpg", "--faces", "{}"],
        ["verify", "a.jpg", "b.jpg", "--fmr", "{}"],
        ["{}"],
        ["help", "{}"],
        ["db", "{}"],
        ["verify", "{}", "b.jpg"],
        ["find", "{}", "--db", "{}"],
        ["embed", "a.jpg", "--model", "{}"],
        ["embed", "a.jpg", "-o", "{}/x.csv"],
        ["embed", "a.jpg", "--device", "{}"],
        ["calibrate", "--scores", "{}", "-o", "x.json"],
    ],
)
def test_no_error_passes_on_what_a_terminal_obeys(command, tmp_path):
    typed = "x\x1b[31m\x9b2J\u202ey"
    words = ["--cache", str(tmp_path), *(word.format(typed) for word in command)]
    done = CliRunner(env={"TERM": "dumb", "COLUMNS": "200"}).invoke(app, words, prog_name="facecli")
    assert done.exit_code == 2
    assert "\\x1b[31m\\x9b2J\\u202ey" in done.stderr
    assert all(c.isprintable() or c == "\n" for c in done.output + done.stderr)


def test_what_letters_are_made_of_is_left_alone(capsys):
    name = "caf\u00e9 caf\u0065\u0301 \u0645\u0644\u0641 \u5199\u771f \U0001f600"
    for form in ("jsonl", "csv", "table"):
        written(form, [{"path": name}])
        assert name in capsys.readouterr().out


@pytest.mark.parametrize("title", ["[red]x[/red]", "a\x1b[31mb"])
def test_a_title_and_a_name_are_no_markup(title, capsys):
    with Output(["path"], form="table", title=title) as sink:
        sink.emit({"path": "[bold]:smile:[/bold]"})
    out = capsys.readouterr().out
    assert one_line(title) in out
    assert "[bold]:smile:[/bold]" in out


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_text_that_a_spreadsheet_would_calculate_begins_with_an_apostrophe(form, capsys):
    names = ["=1+1", "+cmd|' /C calc'!A0", "-1", "@SUM(A1)", "\uff1d1", "\t=1", "\r=1", "a=b", "", "'"]
    records = [{"path": name, "similarity": -0.5, "box": [-1]} for name in names]
    written(form, records)
    rows = list(
        csv.DictReader(
            io.StringIO(capsys.readouterr().out), dialect={"csv": "excel", "tsv": "excel-tab"}[form]
        )
    )
    assert [row["path"] for row in rows] == [
        *(f"'{name}" for name in names[:5]),
        "\\t=1",
        "\\r=1",
        *names[7:],
    ]
    assert {(row["similarity"], row["box"]) for row in rows} == {("-0.5", "[-1]")}
