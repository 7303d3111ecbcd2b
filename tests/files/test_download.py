"""Downloads against a real HTTP server that can be told to misbehave."""

from __future__ import annotations

import hashlib
import multiprocessing
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facecli.errors import WeightsMissing
from facecli.files import download

BODY = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(BODY).hexdigest()
QUICK = (0.01, 0.01, 0.01)


class Server:
    """Serves `body` under any path; `ranges` holds the Range header of each request, or None."""

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body
        self.etag = '"one"'
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.break_after: list[int] = []
        """Bytes after which the next answers break off."""
        self.status = 200
        self.says_length = True
        self.pause_seconds = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/weights.pt"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        time.sleep(self.pause_seconds)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = 0
        if asked is not None and self.knows_ranges and request.headers.get("If-Range") == self.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(self.body):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        else:
            request.send_response(200)
        if self.says_length:
            request.send_header("Content-Length", str(len(self.body) - start))
        request.send_header("ETag", self.etag)
        request.end_headers()
        rest = self.body[start:]
        request.wfile.write(rest[: self.break_after.pop(0)] if self.break_after else rest)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if not path.name.endswith(".lock"))


def test_happy_path_reports_progress_and_leaves_only_the_file(server, tmp_path):
    target = tmp_path / "deep" / "er" / "weights.pt"
    seen, said = [], []
    assert (
        download.fetch(
            server.url,
            target,
            sha256=DIGEST,
            size=len(BODY),
            progress=lambda *x: seen.append(x),
            notify=said.append,
        )
        == target
    )
    assert target.read_bytes() == BODY
    assert leftovers(target) == ["weights.pt"]
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    assert said == [f"fetching weights.pt from {server.url}"]
    download.fetch(server.url, target, sha256=DIGEST)
    assert server.ranges == [None], "a file that is there is not fetched again"


def test_abbreviated_digest(server, tmp_path):
    download.fetch(server.url, tmp_path / "a", sha256=DIGEST[:8])
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        download.fetch(server.url, tmp_path / "b", sha256="00000000")


def test_broken_off_twice_is_resumed_where_it_stopped(server, tmp_path):
    server.break_after = [300_000, 200_000]
    target = tmp_path / "weights.pt"
    download.fetch(server.url, target, sha256=DIGEST, backoff_seconds=QUICK)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]
    assert leftovers(target) == ["weights.pt"]


def test_part_survives_the_last_retry_and_the_next_call_goes_on(server, tmp_path):
    server.break_after = [1000] * 4
    target = tmp_path / "weights.pt"
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, target, sha256=DIGEST, backoff_seconds=QUICK)
    assert f"4000 of {len(BODY)} bytes came" in str(caught.value)
    assert "run again" in str(caught.value)
    assert not target.exists()
    download.fetch(server.url, target, sha256=DIGEST)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=4000-"]


def test_a_file_that_changed_is_not_glued_to_its_old_half(server, tmp_path):
    server.break_after = [300_000]
    target = tmp_path / "weights.pt"
    with pytest.raises(WeightsMissing):
        download.fetch(server.url, target, sha256=None, backoff_seconds=())
    server.body, server.etag = BODY[::-1], '"two"'
    download.fetch(server.url, target, sha256=None)
    assert server.ranges == [None, "bytes=300000-"]
    assert target.read_bytes() == BODY[::-1]


def test_a_server_that_ignores_range_sends_it_all_again(server, tmp_path):
    server.knows_ranges = False
    server.break_after = [300_000]
    target = tmp_path / "weights.pt"
    download.fetch(server.url, target, sha256=DIGEST, backoff_seconds=QUICK)
    assert server.ranges == [None, "bytes=300000-"]
    assert target.read_bytes() == BODY


def test_a_part_as_long_as_the_file_starts_over(server, tmp_path):
    (tmp_path / "weights.pt.part").write_bytes(BODY)
    (tmp_path / "weights.pt.part.version").write_text(server.etag)
    target = download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=QUICK)
    assert server.ranges == [f"bytes={len(BODY)}-", None]
    assert target.read_bytes() == BODY


def test_wrong_checksum_removes_the_part_and_names_both(server, tmp_path):
    target = tmp_path / "weights.pt"
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, target, sha256="ab" * 32, backoff_seconds=QUICK)
    assert "ab" * 32 in str(caught.value)
    assert DIGEST in str(caught.value)
    assert leftovers(target) == []
    assert len(server.ranges) == 1, "a wrong file is not fetched again and again"


def test_wrong_length_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(WeightsMissing, match=f"offers {len(BODY)} bytes where 5 are expected"):
        download.fetch(server.url, tmp_path / "weights.pt", sha256=None, size=5)


def test_short_file_without_a_length_is_caught_by_its_size(server, tmp_path):
    server.says_length = False
    server.break_after = [1000] * 4
    with pytest.raises(WeightsMissing, match=f"of {len(BODY)} bytes came"):
        download.fetch(
            server.url, tmp_path / "weights.pt", sha256=DIGEST, size=len(BODY), backoff_seconds=QUICK
        )


def test_length_and_digest_both_unknown_is_refused(server, tmp_path):
    server.says_length = False
    with pytest.raises(WeightsMissing, match="does not say how long"):
        download.fetch(server.url, tmp_path / "weights.pt", sha256=None)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 4)])
def test_error_answers(server, tmp_path, status, requests):
    server.status = status
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=QUICK)
    for part in (str(status), server.url, str(tmp_path / "weights.pt"), "give its path as weights"):
        assert part in str(caught.value)
    assert len(server.ranges) == requests


def test_no_server_says_at_once_what_to_do(server, tmp_path):
    server.close()
    started = time.monotonic()
    with pytest.raises(WeightsMissing) as caught:
        download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=(60.0,))
    assert time.monotonic() - started < 30
    for part in (
        "cannot reach the server",
        server.url,
        str(tmp_path / "weights.pt"),
        "give its path as weights",
    ):
        assert part in str(caught.value)


def test_silent_server_times_out(server, tmp_path):
    server.pause_seconds = 0.5
    with pytest.raises(WeightsMissing, match="timed out"):
        download.fetch(
            server.url, tmp_path / "weights.pt", sha256=DIGEST, timeout_seconds=0.1, backoff_seconds=()
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_full_disk(server, tmp_path):
    (tmp_path / "weights.pt.part").symlink_to("/dev/full")
    with pytest.raises(WeightsMissing, match=r"no space left.*make room"):
        download.fetch(server.url, tmp_path / "weights.pt", sha256=DIGEST, backoff_seconds=QUICK)


def test_cache_folder_that_is_a_file(server, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(WeightsMissing, match="cannot write"):
        download.fetch(server.url, tmp_path / "cache" / "weights.pt", sha256=DIGEST)


def test_first_download_is_trusted_and_remembered(server, tmp_path):
    target = download.fetch(server.url, tmp_path / "weights.pt", sha256=None)
    assert (tmp_path / "weights.pt.sha256").read_text() == f"{DIGEST}  weights.pt\n"
    assert download.recorded_digest(target) == DIGEST
    assert download.check(target, None) == DIGEST
    target.write_bytes(b"tampered")
    with pytest.raises(WeightsMissing, match=r"wrong checksum.*weights\.pt\.sha256"):
        download.check(target, None)
    # The record outlives the file: another file under the same address is not taken for it.
    target.unlink()
    server.body, server.etag = BODY[::-1], '"two"'
    with pytest.raises(WeightsMissing, match="wrong checksum"):
        download.fetch(server.url, target, sha256=None)


def test_a_file_put_there_by_hand_is_remembered_too(tmp_path):
    (tmp_path / "w.pt").write_bytes(BODY)
    assert download.check(tmp_path / "w.pt", None) == DIGEST
    assert download.recorded_digest(tmp_path / "w.pt") == DIGEST
    with pytest.raises(WeightsMissing, match="cannot read"):
        download.check(tmp_path / "nothing", None)


def test_damaged_record(tmp_path):
    (tmp_path / "w.pt").write_bytes(BODY)
    (tmp_path / "w.pt.sha256").write_text("hello\n")
    with pytest.raises(WeightsMissing, match="not a SHA-256 record"):
        download.check(tmp_path / "w.pt", None)


def _fetch_in_child(url: str, target: Path, said: multiprocessing.Queue) -> None:
    download.fetch(url, target, sha256=DIGEST, notify=said.put)


@pytest.mark.slow
def test_two_processes_fetch_once(server, tmp_path):
    server.pause_seconds = 0.5
    context = multiprocessing.get_context("spawn")
    said: multiprocessing.Queue = context.Queue()
    target = tmp_path / "weights.pt"
    children = [context.Process(target=_fetch_in_child, args=(server.url, target, said)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert server.ranges == [None]
    assert target.read_bytes() == BODY


def test_the_one_who_waits_is_told(server, tmp_path):
    server.pause_seconds = 0.3
    target = tmp_path / "weights.pt"
    said: list[str] = []
    first = threading.Thread(target=download.fetch, args=(server.url, target), kwargs={"sha256": DIGEST})
    first.start()
    while not server.ranges:
        time.sleep(0.005)
    download.fetch(server.url, target, sha256=DIGEST, notify=said.append)
    first.join()
    assert said == ["another process is fetching weights.pt; waiting for it"]
    assert server.ranges == [None]
