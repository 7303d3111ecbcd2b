"""Files that are read as a whole end somewhere."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from facecli.errors import BadInput
from facecli.files import json_text, tables


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(tables, "MOST_BYTES", 1000)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs devices that never end")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_that_never_ends_is_refused(device, short):
    for read in (tables.read_bytes, json_text.read):
        with pytest.raises(BadInput, match=f"{device}: has no end within 1,000 bytes"):
            read(device)


def piped(data):
    reader, writer = os.pipe()

    def write():
        with open(writer, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return tables.read_bytes(f"/dev/fd/{reader}")
    finally:
        os.close(reader)
        thread.join()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs names for descriptors")
def test_a_pipe_is_read_to_its_end_but_not_for_ever(short):
    assert piped(b"left,right\n" * 90) == b"left,right\n" * 90
    with pytest.raises(BadInput, match="has no end"):
        piped(b"x" * 1001)


def test_a_file_may_have_any_length(short, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"x" * 5000)
    assert len(tables.read_bytes(tmp_path / "x.csv")) == 5000
