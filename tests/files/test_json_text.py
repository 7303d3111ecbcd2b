"""JSON is read strictly, and what is wrong with it is said with its place."""

from __future__ import annotations

import pytest

from facecli.errors import BadInput, NoSuchFile
from facecli.files import json_text


def test_what_is_written_is_read(tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null, true], "b": {"a": "\xc3\xa9"}}')
    assert json_text.read(file) == {"a": [1, 2.5, None, True], "b": {"a": "é"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON (line 1, column 1: Expecting value)"),
        ('{"a":\n 1,}', "is not JSON (line 2, column 4: Expecting property name enclosed in double quotes)"),
        ("[1] [2]", "is not JSON (line 1, column 5: Extra data)"),
        ("[NaN]", "is not JSON (NaN is not a number)"),
        ('{"a": -Infinity}', "is not JSON (-Infinity is not a number)"),
        ('[{"a": 1, "b": 2, "a": 1}]', "is not JSON (the key 'a' is there twice)"),
        ("[" * 100_000, "is not JSON (nested too deep)"),
        ('{"a":' * 100_000, "is not JSON (nested too deep)"),
        (b'{"a": "\xe9"}', "is not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_what_two_readers_would_not_read_alike_is_refused(text, said):
    with pytest.raises(BadInput) as caught:
        json_text.parse(text, "x.json", hint="make it again", advice="again")
    assert str(caught.value) == f"x.json: {said}; make it again"
    assert caught.value.advice == "again"


def test_a_number_of_a_million_digits_is_refused():
    with pytest.raises(BadInput, match="is not JSON"):
        json_text.parse("1" * 1_000_000, "x.json")


def test_a_line_of_a_file_is_named():
    with pytest.raises(BadInput) as caught:
        json_text.parse('{"a": }', "x.jsonl", line=7)
    assert str(caught.value) == "x.jsonl: line 7: is not JSON (column 7: Expecting value)"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NoSuchFile):
        json_text.read(tmp_path / "x.json")
    with pytest.raises(BadInput, match="cannot be read"):
        json_text.read(tmp_path)
