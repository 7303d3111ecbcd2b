"""The database as its users see it: folders of photos in, galleries and reports out.

The enroller is a stand-in (see `standin`): what is tested is which photos it is asked for and what is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from standin import DIM, StandIn, gallery_of, half_commit, template

from facecli import errors
from facecli.errors import BadInput, DatabaseError, EmbedderMismatch, NoSuchFile, UsageError
from facecli.gallery import enrolment, survey
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store import int8_copy, search, vacuum
from facecli.gallery.store.names import Photo
from facecli.gallery.store.writer import Store
from facecli.photos import find
from facecli.templates.template import Failure

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def people(tmp_path):
    root = tmp_path / "people"
    put(root, "Ada/1.jpg", b"ada 1")
    put(root, "Ada/2.jpg", b"ada 2")
    put(root, "Bob/deep/er/1.JPG", b"bob 1")
    return root


@pytest.fixture
def settled(monkeypatch):
    """Let every file be old enough for its times to be trusted."""
    monkeypatch.setattr(enrolment, "COARSEST_CLOCK_NS", -(10**12))


def needs_permission():
    """Say whether this user may only open what permissions allow."""
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "closed")
        closed.mkdir(0)
        return not os.access(closed, os.R_OK)


def put(root, name, data):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def kept(found):
    return {sample.path: found.templates[sample.row].tobytes() for sample in found.samples}


def expected(photos):
    return {name: template(data).tobytes() for name, data in photos.items()}


# The report and the layout


def test_folders_are_subjects_and_loose_images_are_nobody(people, cache):
    put(people, "loose.jpg", b"loose")
    put(people, "Ada/notes.txt", b"no image")
    put(people, "Cyd/1.jpg", b"noface 1")
    found, report = refresh(people, StandIn(), cache_dir=cache)
    assert found.subjects == ("Ada", "Bob")
    assert [sample.path for sample in found.samples] == ["Ada/1.jpg", "Ada/2.jpg", "Bob/deep/er/1.JPG"]
    assert kept(found) == expected(
        {"Ada/1.jpg": b"ada 1", "Ada/2.jpg": b"ada 2", "Bob/deep/er/1.JPG": b"bob 1"}
    )
    assert (report.n_samples, report.n_subjects, report.embedded, report.reused) == (3, 3, 3, 0)
    assert report.ignored == ("loose.jpg",)
    assert report.without_template == ("Cyd",)
    assert report.failures == (Failure("Cyd/1.jpg", "no_face", "no face was found"),)


def test_a_refresh_without_changes_asks_for_nothing_and_writes_nothing(people, cache, settled):
    refresh(people, StandIn(), cache_dir=cache)
    before = {path: path.stat().st_mtime_ns for path in (people / ".facecli").rglob("*")}
    again = StandIn()
    found, report = refresh(people, again, cache_dir=cache)
    assert again.asked == []
    assert (report.embedded, report.reused, report.removed) == (0, 3, 0)
    assert {path: path.stat().st_mtime_ns for path in (people / ".facecli").rglob("*")} == before
    assert found.complete


def test_failures_are_remembered_until_the_file_changes(people, cache, settled):
    bad = put(people, "Ada/bad.jpg", b"broken 1")
    put(people, "Ada/empty.jpg", b"")
    refresh(people, StandIn(), cache_dir=cache)
    again = StandIn()
    _, report = refresh(people, again, cache_dir=cache)
    assert again.asked == []
    assert [(failure.path, failure.code) for failure in report.failures] == [
        ("Ada/bad.jpg", "unreadable"),
        ("Ada/empty.jpg", "unreadable"),
    ]
    bad.write_bytes(b"mended")
    _, report = refresh(people, again, cache_dir=cache)
    assert again.asked == [b"mended"]
    assert [failure.path for failure in report.failures] == ["Ada/empty.jpg"]


def test_failures_under_other_limits_are_tried_again_and_successes_are_not(people, cache, settled):
    put(people, "Ada/small.jpg", b"small 1")
    put(people, "Ada/none.jpg", b"noface 1")
    refresh(people, StandIn(min_face=40), cache_dir=cache)
    finer = StandIn(min_face=20)
    found, report = refresh(people, finer, cache_dir=cache)
    assert sorted(finer.asked) == [b"noface 1", b"small 1"]
    assert "Ada/small.jpg" in kept(found)
    assert [failure.path for failure in report.failures] == ["Ada/none.jpg"]


def test_what_no_decoder_could_read_is_tried_again_with_another_one(people, cache, settled, monkeypatch):
    put(people, "Ada/new format.heic", b"broken 1")
    refresh(people, StandIn(), cache_dir=cache)
    monkeypatch.setattr(enrolment.PIL, "__version__", "99.0")
    again = StandIn()
    refresh(people, again, cache_dir=cache)
    assert again.asked == [b"broken 1"]


def test_the_same_contents_share_a_row_and_are_enrolled_once(people, cache):
    put(people, "Ada/copy.jpg", b"ada 1")
    put(people, "Eve/1.jpg", b"ada 1")
    enroller = StandIn()
    found, report = refresh(people, enroller, cache_dir=cache)
    assert sorted(enroller.asked) == [b"ada 1", b"ada 2", b"bob 1"]
    assert (report.n_samples, report.embedded, len(found.templates)) == (5, 3, 3)


def test_photos_of_several_faces_are_counted(people, cache):
    put(people, "Ada/group.jpg", b"group 1")
    _, report = refresh(people, StandIn(), cache_dir=cache)
    assert report.several == 1


def test_progress_counts_every_changed_photo(people, cache):
    told = []
    refresh(people, StandIn(), cache_dir=cache, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_another_embedder_has_templates_of_its_own(people, cache):
    refresh(people, StandIn(), cache_dir=cache)
    found, report = refresh(people, StandIn(dim=8), cache_dir=cache)
    assert (report.embedded, found.templates.shape) == (3, (3, 8))
    assert len(Gallery.open(people, "standin-16", DIM, cache_dir=cache).samples) == 3


# What counts as changed


def test_contents_replaced_under_the_same_name_size_and_date_are_seen(people, cache):
    photo = people / "Ada/1.jpg"
    refresh(people, StandIn(), cache_dir=cache)
    for text in (b"ada 3", b"ada 4", b"ada 5"):
        before = photo.stat()
        photo.write_bytes(text)
        os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
        found, _ = refresh(people, StandIn(), cache_dir=cache)
        assert kept(found)["Ada/1.jpg"] == template(text).tobytes()


def test_a_young_file_is_read_again_even_if_nothing_shows_that_it_changed(people, cache, monkeypatch):
    # Every photo keeps its size, times and inode, whatever is done to it.
    frozen = {str(path): os.stat(path) for path in people.rglob("*.[jJ]*")}
    walked = [(here.path, [entry.name for entry in here.images]) for here in find.folders(str(people))]

    class Frozen(SimpleNamespace):
        def stat(self):
            return frozen[os.path.join(self.folder, self.name)]

    def folders(top):
        for folder, names in walked:
            yield find.Folder(folder, [Frozen(folder=folder, name=name) for name in names])

    monkeypatch.setattr(survey, "folders", folders)
    really = os.stat
    monkeypatch.setattr(
        survey.os, "stat", lambda path, **how: frozen[path] if path in frozen else really(path, **how)
    )
    refresh(people, StandIn(), cache_dir=cache)
    (people / "Ada/1.jpg").write_bytes(b"ada 3")
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    assert kept(found)["Ada/1.jpg"] == template(b"ada 3").tobytes()
    # Once it has been read at a safe age it is trusted, which is what makes a refresh cheap.
    monkeypatch.setattr(enrolment, "COARSEST_CLOCK_NS", -(10**12))
    refresh(people, StandIn(), cache_dir=cache)
    (people / "Ada/1.jpg").write_bytes(b"ada 4")
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    assert kept(found)["Ada/1.jpg"] == template(b"ada 3").tobytes()


@pytest.mark.parametrize("moment", ["before it is read", "after it was read"])
def test_a_file_that_changes_while_it_is_enrolled_is_seen_the_next_time(
    people, cache, settled, monkeypatch, moment
):
    photo = people / "Ada/1.jpg"
    really = enrolment.read

    def read(path):
        data = really(path) if moment == "after it was read" else b""
        if Path(path) == photo and photo.read_bytes() == b"ada 1":
            # Longer than a tick of the file system's clock.
            time.sleep(0.03)
            photo.write_bytes(b"ada 3")
        return data if data else really(path)

    monkeypatch.setattr(enrolment, "read", read)
    refresh(people, StandIn(), cache_dir=cache)
    found, report = refresh(people, StandIn(), cache_dir=cache)
    assert kept(found)["Ada/1.jpg"] == template(b"ada 3").tobytes()
    assert report.embedded == (1 if moment == "after it was read" else 0)
    last = StandIn()
    refresh(people, last, cache_dir=cache)
    assert last.asked == []


@pytest.mark.parametrize("seconds", [-3e9, 3e9])
def test_photos_from_a_clock_far_away_are_enrolled_once_and_still_watched(
    people, cache, monkeypatch, seconds
):
    now = time.time()
    far = int((now + seconds) * 1e9) if seconds > 0 else 0
    for photo in people.rglob("*.[jJ]*"):
        os.utime(photo, ns=(far, far))
    monkeypatch.setattr(enrolment, "COARSEST_CLOCK_NS", 200_000_000)
    time.sleep(0.3)
    refresh(people, StandIn(), cache_dir=cache)
    index = folder_of(people) / "index.sqlite"
    before = index.stat().st_mtime_ns
    refresh(people, StandIn(), cache_dir=cache)
    assert index.stat().st_mtime_ns == before
    (people / "Ada/1.jpg").write_bytes(b"ada 3")
    os.utime(people / "Ada/1.jpg", ns=(far, far))
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    assert kept(found)["Ada/1.jpg"] == template(b"ada 3").tobytes()


def test_a_clock_that_goes_back_between_two_runs_changes_nothing(people, cache, monkeypatch):
    """The clock that stamps files is a day ahead when the photos are enrolled, and right again afterwards."""
    really = enrolment._file_system_time_ns
    for ahead_s in (86_400, 0, -86_400):
        monkeypatch.setattr(
            enrolment,
            "_file_system_time_ns",
            lambda folder, ahead_s=ahead_s: really(folder) + ahead_s * 10**9,
        )
        found, _ = refresh(people, StandIn(), cache_dir=cache)
        assert kept(found) == expected(
            {"Ada/1.jpg": b"ada 1", "Ada/2.jpg": b"ada 2", "Bob/deep/er/1.JPG": b"bob 1"}
        )
    (people / "Ada/1.jpg").write_bytes(b"ada 3")
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    assert kept(found)["Ada/1.jpg"] == template(b"ada 3").tobytes()


def test_a_photo_that_leaves_and_returns_is_not_enrolled_again(people, cache, tmp_path):
    refresh(people, StandIn(), cache_dir=cache)
    (people / "Ada/1.jpg").rename(tmp_path / "away.jpg")
    _, report = refresh(people, StandIn(), cache_dir=cache)
    assert (report.n_samples, report.removed) == (2, 1)
    (tmp_path / "away.jpg").rename(people / "Ada/back.jpg")
    again = StandIn()
    found, _ = refresh(people, again, cache_dir=cache)
    assert again.asked == []
    assert kept(found)["Ada/back.jpg"] == template(b"ada 1").tobytes()


def test_the_folder_may_move_and_be_copied(people, cache, tmp_path):
    refresh(people, StandIn(), cache_dir=cache)
    moved = people.rename(tmp_path / "moved")
    copied = shutil.copytree(moved, tmp_path / "copied")
    for root in (moved, copied):
        again = StandIn()
        found, report = refresh(root, again, cache_dir=cache)
        assert (again.asked, report.reused) == ([], 3)
        assert Gallery.open(root, again.id, DIM, cache_dir=cache).samples == found.samples


POOL = [b"face a", b"face b", b"face c", b"face d", b"noface e", b"broken f", b"", b"group g"]
NAMES = ["Ada/1.jpg", "Ada/2.jpg", "Ada/x/1.jpg", "Ada.b/1.jpg", "Bob/1.jpg", "Bob/1.png", "Zoë/é.jpg"]


class Folder(RuleBasedStateMachine):
    """Random changes to a folder; after each refresh it must equal one made afresh, with nothing done twice."""

    def __init__(self):
        super().__init__()
        # In memory where that is possible: it syncs thousands of times.
        self.base = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.root = self.base / "people 0"
        self.cache = self.base / "cache"
        self.photos = {}
        self.seen = set()
        self.clock = 10**18
        self.moves = 0

    def teardown(self):
        if self.photos:
            self.check(read_ahead=2)
        shutil.rmtree(self.base)

    def stamp(self, name):
        # Files change faster here than the clock of the file system ticks.
        self.clock += 10**9
        os.utime(self.root / name, ns=(self.clock, self.clock))

    @rule(name=st.sampled_from(NAMES), data=st.sampled_from(POOL))
    def add_or_replace(self, name, data):
        put(self.root, name, data)
        self.stamp(name)
        self.photos[name] = data

    @precondition(lambda self: self.photos)
    @rule(pick=st.randoms(use_true_random=False))
    def remove(self, pick):
        name = pick.choice(sorted(self.photos))
        (self.root / name).unlink()
        del self.photos[name]

    @precondition(lambda self: self.photos)
    @rule(pick=st.randoms(use_true_random=False))
    def touch(self, pick):
        self.stamp(pick.choice(sorted(self.photos)))

    @precondition(lambda self: self.photos)
    @rule(pick=st.randoms(use_true_random=False), to=st.sampled_from(NAMES), copy=st.booleans())
    def rename_or_copy(self, pick, to, copy):
        name = pick.choice(sorted(self.photos))
        if name == to:
            return
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        if copy:
            shutil.copyfile(self.root / name, self.root / to)
            self.photos[to] = self.photos[name]
        else:
            os.replace(self.root / name, self.root / to)
            self.photos[to] = self.photos.pop(name)
        self.stamp(to)

    @precondition(lambda self: self.photos)
    @rule(to=st.sampled_from(["Eve", "Bob"]))
    def rename_subject(self, to):
        old = sorted(self.photos)[0].split("/")[0]
        if (self.root / to).exists():
            return
        (self.root / old).rename(self.root / to)
        self.photos = {
            to + name[len(old) :] if name.startswith(old + "/") else name: data
            for name, data in self.photos.items()
        }

    @precondition(lambda self: self.root.exists())
    @rule()
    def move_root(self):
        self.moves += 1
        self.root = self.root.rename(self.base / f"people {self.moves}")

    @precondition(lambda self: self.photos)
    @rule(read_ahead=st.sampled_from([1, 3, 50]))
    def bring_up_to_date(self, read_ahead):
        self.check(read_ahead)

    def check(self, read_ahead):
        enroller = StandIn(read_ahead=read_ahead)
        found, report = refresh(self.root, enroller, cache_dir=self.cache)
        fresh_root = self.base / "fresh"
        shutil.copytree(self.root, fresh_root, ignore=shutil.ignore_patterns(".facecli"))
        fresh, fresh_report = refresh(fresh_root, StandIn(), cache_dir=self.cache)
        shutil.rmtree(fresh_root)
        good = {name: data for name, data in self.photos.items() if data.startswith((b"face", b"group"))}
        assert kept(found) == kept(fresh) == expected(good)
        assert found.subjects == fresh.subjects
        assert report.failures == fresh_report.failures
        assert {failure.path for failure in report.failures} == set(self.photos) - set(good)
        # Each content is enrolled once in the life of the folder; empty files need no enroller.
        new = set(self.photos.values()) - self.seen - {b""}
        assert sorted(enroller.asked) == sorted(new)
        self.seen |= new
        opened = Gallery.open(self.root, enroller.id, DIM, cache_dir=self.cache)
        assert (opened.samples, opened.complete) == (found.samples, True)


@pytest.mark.usefixtures("settled_class")
@pytest.mark.slow
class TestFolder(Folder.TestCase):
    settings = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="class")
def settled_class():
    patch = pytest.MonkeyPatch()
    patch.setattr(enrolment, "COARSEST_CLOCK_NS", -(10**12))
    yield
    patch.undo()


# Samples without photos


def import_sample(people, subject, path, data):
    """Put a template into the store as an import does: nothing in the folder stands behind it."""
    digest = hashlib.sha256(b"imported " + data).digest()
    folder = people / ".facecli/standin-16"
    folder.mkdir(parents=True, exist_ok=True)
    with Store.writing(folder, DIM, None) as store:
        result = StandIn().result(Path(path), data)
        sample = Photo(subject.encode(), path.encode(), None, 0)
        store.commit({digest: result}, [(sample, digest)], [], limits="", complete=store.complete())


def test_what_was_imported_stays_when_the_photos_are_looked_at(people, cache, settled):
    refresh(people, StandIn(), cache_dir=cache)
    import_sample(people, "Ada", "7.jpg", b"ada 7")
    import_sample(people, "Dan", "1.jpg", b"dan 1")
    again = StandIn()
    found, report = refresh(people, again, cache_dir=cache)
    assert again.asked == []
    assert (report.n_samples, report.n_subjects, report.removed) == (5, 3, 0)
    assert kept(found)["Ada/7.jpg"] == template(b"ada 7").tobytes()
    assert kept(found)["Dan/1.jpg"] == template(b"dan 1").tobytes()
    # A photo of that name takes its place, and when it goes, so does the sample.
    put(people, "Dan/1.jpg", b"dan 2")
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    assert kept(found)["Dan/1.jpg"] == template(b"dan 2").tobytes()
    shutil.rmtree(people / "Dan")
    found, report = refresh(people, StandIn(), cache_dir=cache)
    assert (found.subjects, report.removed) == (("Ada", "Bob"), 1)


def test_a_database_may_hold_nothing_but_imports(tmp_path, cache):
    people = tmp_path / "people"
    import_sample(people, "Dan", "1.jpg", b"dan 1")
    found, report = refresh(people, StandIn(), cache_dir=cache)
    assert (found.subjects, report.n_samples, report.without_template) == (("Dan",), 1, ())
    # With photos that are all gone it is an unmounted disk again.
    put(people, "Ada/1.jpg", b"ada 1")
    refresh(people, StandIn(), cache_dir=cache)
    shutil.rmtree(people / "Ada")
    with pytest.raises(DatabaseError, match="no photos"):
        refresh(people, StandIn(), cache_dir=cache)
    assert Gallery.open(people, "standin-16", DIM, cache_dir=cache).subjects == ("Ada", "Dan")


# What a survey looks at


def test_only_subjects_that_look_different_are_looked_at_photo_by_photo(people, cache, settled, monkeypatch):
    refresh(people, StandIn(), cache_dir=cache)
    asked = []
    really = Store.known
    monkeypatch.setattr(
        Store, "known", lambda self, name, limits: asked.append(name) or really(self, name, limits)
    )
    refresh(people, StandIn(), cache_dir=cache)
    assert asked == []
    put(people, "Bob/2.jpg", b"bob 2")
    refresh(people, StandIn(), cache_dir=cache)
    assert asked == [b"Bob"]
    refresh(people, StandIn(), cache_dir=cache)
    assert asked == [b"Bob"]


def test_one_photo_more_touches_a_few_pages_whatever_the_database_holds(people, cache, settled):
    for at in range(3000):
        put(people, f"s{at // 10}/{at}.jpg", b"face %d" % at)
    refresh(people, StandIn(), cache_dir=cache)
    files_of = [folder_of(people) / name for name in ("index.sqlite", "templates.npy")]
    before = [path.read_bytes() for path in files_of]
    put(people, "s7/new.jpg", b"face new")
    _, report = refresh(people, StandIn(), cache_dir=cache)
    assert (report.embedded, report.n_samples) == (1, 3004)
    index, matrix = (path.read_bytes() for path in files_of)
    pages = range(0, len(before[0]), 4096)
    assert len(pages) > 150
    assert sum(index[at : at + 4096] != before[0][at : at + 4096] for at in pages) < 40
    assert matrix[128 : len(before[1])] == before[1][128:]
    assert len(matrix) == len(before[1]) + 4 * DIM


def test_a_survey_holds_changed_photos_by_name_alone(tmp_path):
    for at in range(4000):
        put(tmp_path, f"s{at // 100}/{at:05}.jpg", b"x")
    tracemalloc.start()
    seen = survey.survey(tmp_path, None, "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(seen.changed), seen.n_photos) == (4000, 4000)
    assert list(seen.changed)[4:6] == [(b"s0", b"00004.jpg"), (b"s0", b"00005.jpg")]
    # One record a photo would take ten times as much.
    assert peak < 200_000


# Odd names and odd files


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9/\xff.jpg", b"two\nlines/a\nb.jpg", "Zoë/ü ö.jpg".encode(), b"a?b#c%41/1.jpg", b" x /'\";.jpg"],
)
def test_any_name_the_file_system_takes(tmp_path, cache, name):
    root = tmp_path / os.fsdecode(b"r\xe9ot ?#")
    path = os.fsencode(root) + b"/" + name
    try:
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(b"ada 1")
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    for again in (False, True):
        enroller = StandIn()
        found, report = refresh(root, enroller, cache_dir=cache)
        assert (report.n_samples, report.embedded) == (1, 0 if again else 1)
    assert (root / found.samples[0].path).read_bytes() == b"ada 1"
    [[candidate]] = found.search(template(b"ada 1"), 1)
    json.dumps([candidate.subject, candidate.path]).encode("utf-8")
    assert candidate.path == errors.printable(os.fsdecode(name))
    assert candidate.subject == candidate.path.split("/")[0]
    assert len(found.templates_of(candidate.subject)) == 1


def test_links_and_loops(people, cache):
    try:
        (people / "Ada/loop").symlink_to(people, target_is_directory=True)
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")
    (people / "Ada/dangling.jpg").symlink_to("nowhere.jpg")
    (people / "Bob/link.jpg").symlink_to("../Ada/1.jpg")
    found, report = refresh(people, StandIn(), cache_dir=cache)
    assert report.embedded == 3
    assert "Bob/link.jpg" in kept(found)
    assert [(failure.path, failure.code) for failure in report.failures] == [
        ("Ada/dangling.jpg", "no_such_file")
    ]


def test_a_file_that_cannot_be_read_is_reported_each_time_and_forces_no_writing(people, cache, settled):
    try:
        (people / "Ada/dangling.jpg").symlink_to("nowhere.jpg")
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")
    refresh(people, StandIn(), cache_dir=cache)
    index = people / ".facecli/standin-16/index.sqlite"
    before = index.stat().st_mtime_ns
    _, report = refresh(people, StandIn(), cache_dir=cache)
    assert len(report.failures) == 1
    assert index.stat().st_mtime_ns == before


@pytest.mark.skipif(not needs_permission(), reason="permissions do not stop this user")
def test_photos_in_a_folder_that_may_only_be_listed_are_reported(people, cache, settled):
    put(people, "Bob/deep/2.jpg", b"bob 2")
    refresh(people, StandIn(), cache_dir=cache)
    (people / "Bob/deep").chmod(0o444)
    try:
        found, report = refresh(people, StandIn(), cache_dir=cache)
    finally:
        (people / "Bob/deep").chmod(0o755)
    assert found.subjects == ("Ada",)
    assert [failure.path for failure in report.failures] == ["Bob/deep/2.jpg", "Bob/deep/er"]
    assert {failure.code for failure in report.failures} == {"unreadable"}


def test_a_file_that_becomes_a_folder_says_nothing_of_other_empty_files(people, cache, monkeypatch):
    put(people, "Ada/0.jpg", b"")
    put(people, "Bob/0.jpg", b"")

    def look(root, subject, path):
        photo = survey.look(root, subject, path)
        if path == b"0.jpg" and subject == b"Ada":
            (people / "Ada/0.jpg").unlink()
            (people / "Ada/0.jpg").mkdir()
        return photo

    monkeypatch.setattr(enrolment, "look", look)
    _, report = refresh(people, StandIn(), cache_dir=cache)
    assert [(failure.path, failure.message) for failure in report.failures] == [
        ("Ada/0.jpg", "is a folder, not an image"),
        ("Bob/0.jpg", "is empty (0 bytes)"),
    ]


# What is refused


def test_what_is_no_database_is_refused_with_the_layout(tmp_path, cache):
    with pytest.raises(NoSuchFile, match="no such folder"):
        refresh(tmp_path / "nowhere", StandIn(), cache_dir=cache)
    a_file = put(tmp_path, "file.jpg", b"x")
    with pytest.raises(DatabaseError, match="not a folder"):
        refresh(a_file, StandIn(), cache_dir=cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatabaseError, match="no photos in this folder; .* e.g. people/Ada/1.jpg"):
        refresh(tmp_path / "empty", StandIn(), cache_dir=cache)
    put(tmp_path / "loose", "1.jpg", b"x")
    put(tmp_path / "loose", "2.jpg", b"y")
    with pytest.raises(DatabaseError, match="holds 2 images but no folder of a person.*people/Ada/1.jpg"):
        refresh(tmp_path / "loose", StandIn(), cache_dir=cache)
    assert not list(tmp_path.rglob(".facecli"))
    assert not cache.exists()


def test_only_the_cache_is_left(people, cache):
    before, _ = refresh(people, StandIn(), cache_dir=cache)
    for photo in list(people.iterdir()):
        if photo.name != ".facecli":
            shutil.rmtree(photo)
    left = Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    assert kept(left) == kept(before)
    # Photos that all vanished are an unmounted disk more often than a wish to forget everybody.
    with pytest.raises(DatabaseError, match="no photos.*can be opened without the photos"):
        refresh(people, StandIn(), cache_dir=cache)
    assert len(Gallery.open(people, "standin-16", DIM, cache_dir=cache).samples) == 3


def test_open_says_what_is_missing(people, cache, tmp_path):
    with pytest.raises(NoSuchFile, match="no templates are kept"):
        Gallery.open(tmp_path / "nowhere", "standin-16", DIM, cache_dir=cache)
    with pytest.raises(DatabaseError, match="no templates of embedder standin-16"):
        Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    refresh(people, StandIn(), cache_dir=cache)
    with pytest.raises(EmbedderMismatch, match="holds templates of 16 numbers"):
        Gallery.open(people, "standin-16", 128, cache_dir=cache)


# Where templates cannot be written


def without_a_cache_inside(people):
    """Stop a cache folder from being made, which works for a superuser too."""
    (people / ".facecli").write_text("in the way")


def test_a_database_that_cannot_be_written_is_kept_in_the_users_cache(people, cache, settled):
    without_a_cache_inside(people)
    first, report = refresh(people, StandIn(), cache_dir=cache)
    assert report.embedded == 3
    again = StandIn()
    _, report = refresh(people, again, cache_dir=cache)
    assert (again.asked, report.reused) == ([], 3)
    assert kept(Gallery.open(people, "standin-16", DIM, cache_dir=cache)) == kept(first)
    # Nor do the templates go when the photos do.
    shutil.rmtree(people)
    assert kept(Gallery.open(people, "standin-16", DIM, cache_dir=cache)) == kept(first)


def test_templates_that_can_be_kept_nowhere(people, cache):
    without_a_cache_inside(people)
    cache.write_text("in the way")
    with pytest.raises(DatabaseError, match="neither this folder nor the cache folder can be written"):
        refresh(people, StandIn(), cache_dir=cache)


READ_ONLY = """
import json, sys
sys.path[:0] = sys.argv[3].split(":")
from pathlib import Path
from standin import StandIn
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store.writer import Store
root, cache, answer = Path(sys.argv[1]), Path(sys.argv[2]), []
for _ in range(2):
    enroller = StandIn()
    found, report = refresh(root, enroller, cache_dir=cache)
    left = Gallery.open(root, enroller.id, enroller.dim, cache_dir=cache)
    answer.append([len(enroller.asked), report.n_samples, len(left.samples), cache.exists()])
print(json.dumps(answer))
"""


def on_read_only_mount(people, cache):
    """Run two refreshes in a process that sees `people` as a read-only medium."""
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    paths = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    command = ["unshare", "-m", "sh", "-c", script, "sh", people]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a folder read-only here: {error}")
    done = subprocess.run(
        [*command, sys.executable, "-c", READ_ONLY, people, cache, paths],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_a_read_only_medium_without_templates(people, cache):
    assert on_read_only_mount(people, cache) == [[3, 3, 3, True], [0, 3, 3, True]]
    assert not (people / ".facecli").exists()


def test_a_read_only_medium_with_templates(people, cache, settled):
    refresh(people, StandIn(), cache_dir=cache)
    put(people, "New/1.jpg", b"new 1")
    # What was enrolled in the medium is taken over into the cache, and only the new photo enrolled.
    assert on_read_only_mount(people, cache) == [[1, 4, 4, True], [0, 4, 4, True]]


def test_a_read_only_medium_with_all_templates_needs_no_cache(people, cache, settled):
    refresh(people, StandIn(), cache_dir=cache)
    for photo in people.rglob("*.[jJ]*"):
        os.utime(photo, ns=(10**18, 10**18))
    refresh(people, StandIn(), cache_dir=cache)
    assert on_read_only_mount(people, cache) == [[0, 3, 3, False], [0, 3, 3, False]]


def test_a_read_only_medium_left_by_a_killed_writer_is_enrolled_again(people, cache, settled):
    refresh(people, StandIn(), cache_dir=cache)
    half_commit(people / ".facecli/standin-16")
    assert on_read_only_mount(people, cache) == [[3, 3, 3, True], [0, 3, 3, True]]


FULL_DISK = """
import json, subprocess, sys
sys.path[:0] = sys.argv[3].split(":")
from pathlib import Path
from facecli.errors import DatabaseError
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.store.writer import Store
from standin import DIM, StandIn
root, cache, answer = Path(sys.argv[1]), Path(sys.argv[2]), []
try:
    refresh(root, StandIn(), cache_dir=cache)
except DatabaseError as error:
    answer.append(str(error))
left = Gallery.open(root, "standin-16", DIM, cache_dir=cache)
answer += [left.n_samples, left.complete, len(left.samples)]
subprocess.run(["mount", "-o", "remount,size=20m", root / ".facecli"], check=True)
again = StandIn()
found, report = refresh(root, again, cache_dir=cache)
answer += [len(again.asked), report.n_samples, found.complete]
print(json.dumps(answer))
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_loses_nothing_and_is_said(people, cache, settled):
    for at in range(3000):
        put(people, f"s{at // 20}/{at}.jpg", b"face %d" % at)
    (people / ".facecli").mkdir()
    script = 'mount -t tmpfs -o size=500k none "$1" && shift && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", people / ".facecli"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot make a small file system here: {error}")
    paths = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    # A commit every 32 photos, so that some come before the disk is full.
    body = "import facecli.gallery.enrolment as e; e.BATCH_COMMITS = 0\n" + FULL_DISK
    body = f"import sys; sys.path[:0] = {paths.split(':')!r}\n{body}"
    done = subprocess.run(
        [*command, sys.executable, "-c", body, people, cache, paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, n_samples, complete, n_listed, n_asked, n_in_the_end, complete_in_the_end = json.loads(done.stdout)
    assert "disk full" in said or "no space" in said
    assert 32 <= n_samples == n_listed < 3003
    assert not complete
    assert (n_asked, n_in_the_end, complete_in_the_end) == (3003 - n_samples, 3003, True)


# Damage


def folder_of(people):
    return people / ".facecli/standin-16"


def test_torn_matrices_are_mended_by_enrolling_only_what_is_lost(people, cache, settled):
    for at in range(20):
        put(people, f"Cyd/{at}.jpg", b"cyd %d" % at)
    whole, _ = refresh(people, StandIn(), cache_dir=cache)
    matrix = folder_of(people) / "templates.npy"
    os.truncate(matrix, 128 + 20 * DIM * 4 + 7)
    with pytest.raises(DatabaseError, match="holds 20 of the 23 templates"):
        Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    enroller = StandIn()
    mended, report = refresh(people, enroller, cache_dir=cache)
    assert (len(enroller.asked), report.embedded, report.removed) == (3, 3, 0)
    assert kept(mended) == kept(whole)
    assert np.load(matrix, mmap_mode="r").shape == (23, DIM)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are not listed here")
def test_what_cannot_be_opened_is_not_held_open(people, cache):
    refresh(people, StandIn(), cache_dir=cache)
    os.truncate(folder_of(people) / "templates.npy", 0)
    # While the error is there, and so are its frames: Windows renames and deletes no open files.
    with pytest.raises(DatabaseError, match="holds 0 of the 3") as caught:
        Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    held = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    assert caught.tb is not None
    assert not [path for path in held if path.startswith(str(people))]


@pytest.mark.parametrize("damage", ["missing", "foreign", "header"])
def test_a_matrix_that_is_gone_or_foreign_is_made_again(people, cache, settled, damage):
    whole = kept(refresh(people, StandIn(), cache_dir=cache)[0])
    matrix = folder_of(people) / "templates.npy"
    if damage == "missing":
        matrix.unlink()
    elif damage == "foreign":
        np.save(matrix, np.zeros((3, DIM), np.float64))
    else:
        data = matrix.read_bytes()
        matrix.write_bytes(data.replace(b"<f4", b"<f8"))
    enroller = StandIn()
    mended, _ = refresh(people, enroller, cache_dir=cache)
    assert len(enroller.asked) == 3
    assert kept(mended) == whole
    np.testing.assert_array_equal(np.load(matrix), mended.templates)


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "scrambled"])
def test_a_damaged_index_is_set_aside_and_made_again(people, cache, settled, damage):
    for at in range(200):
        put(people, f"Cyd/{at}.jpg", b"cyd %d" % at)
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    whole = kept(found)
    index = folder_of(people) / "index.sqlite"
    data = index.read_bytes()
    page = 4096
    index.write_bytes(
        {
            "text": b"this is no database " * 500,
            "empty": b"",
            "cut": data[: 2 * page],
            "scrambled": data[:page] + b"\xa5" * (len(data) - page),
        }[damage]
    )
    with pytest.raises(DatabaseError, match="refresh it: the photos are enrolled again"):
        Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    if damage == "text":
        # What was opened before says so, instead of answering from what is left.
        with pytest.raises(DatabaseError, match=r"damaged .*a repair sets it aside"):
            found.search(template(b"ada 1"), 1)
    notices = []
    mended, _ = refresh(people, StandIn(), cache_dir=cache, notify=notices.append)
    assert kept(mended) == whole
    assert "set aside" in notices[0]
    assert (folder_of(people) / "index.sqlite.damaged").exists()


def test_an_index_of_a_later_version_is_left_alone(people, cache):
    refresh(people, StandIn(), cache_dir=cache)
    connection = sqlite3.connect(folder_of(people) / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DatabaseError, match="newer facecli.*upgrade"):
        refresh(people, StandIn(), cache_dir=cache)


# Interruption and company


class Stop(BaseException):
    """As a keyboard interrupt comes: no ordinary exception."""


def test_what_was_finished_before_an_interrupt_is_kept(people, cache):
    for at in range(20):
        put(people, f"Cyd/{at}.jpg", b"cyd %d" % at)

    def stop_at_ten(done, total):
        if done == 10:
            raise Stop

    with pytest.raises(Stop):
        refresh(people, StandIn(), cache_dir=cache, progress=stop_at_ten)
    partial = Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    assert len(partial.samples) == 10
    assert not partial.complete
    enroller = StandIn()
    found, _ = refresh(people, enroller, cache_dir=cache)
    assert len(enroller.asked) == 13
    assert found.complete


def test_an_enroller_is_stopped_before_the_store_is_closed(people, cache):
    class Tidy(StandIn):
        closed = 0

        def enrol(self, photos):
            try:
                yield from super().enrol(photos)
            finally:
                # A thread that reads ahead may still ask for a photo.
                next(iter(photos), None)
                self.closed += 1

    def stop(done, total):
        raise Stop

    enroller = Tidy(read_ahead=1)
    with pytest.raises(Stop) as caught:
        refresh(people, enroller, cache_dir=cache, progress=stop)
    # The traceback keeps the generator alive, so nothing but the run itself can have closed it.
    assert caught.tb is not None
    assert enroller.closed == 1


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing():
    done = subprocess.run(
        [sys.executable, "benchmarks/kill_enrolment.py", "--enroller", "standin:slow", "--kills", "10"]
        + ["--n", "200", "--seed", str(time.time_ns() % 1000)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)
    assert record["wrong"] == []
    assert record["kills"] >= 5


def test_two_writers_share_the_work(people, cache):
    for at in range(60):
        put(people, f"Cyd/{at}.jpg", b"cyd %d" % at)
    enrollers = [StandIn(seconds=0.002), StandIn(seconds=0.002)]
    results, notices = [], []

    def enrol(enroller):
        results.append(refresh(people, enroller, cache_dir=cache, notify=notices.append))

    threads = [threading.Thread(target=enrol, args=(enroller,)) for enroller in enrollers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(enroller.asked) for enroller in enrollers) == [0, 63]
    assert notices == ["another process is enrolling into this database; waiting for it to finish"]
    assert kept(results[0][0]) == kept(results[1][0])


@pytest.mark.slow
def test_readers_never_wait_and_never_see_a_torn_state(people, cache):
    for at in range(300):
        put(people, f"Cyd/{at:03}.jpg", b"cyd %d" % at)
    writer = threading.Thread(
        target=refresh, args=(people, StandIn(seconds=0.002)), kwargs={"cache_dir": cache}
    )
    writer.start()
    matrix = folder_of(people) / "templates.npy"
    sizes = []
    while writer.is_alive():
        if not (folder_of(people) / "index.sqlite").exists():
            continue
        rows = np.load(matrix, mmap_mode="r")
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        now = Gallery.open(people, "standin-16", DIM, cache_dir=cache)
        for sample in now.samples[-3:]:
            data = (people / sample.path).read_bytes()
            assert now.templates[sample.row].tobytes() == template(data).tobytes()
        sizes.append(len(now.samples))
        time.sleep(0.002)
    writer.join()
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 3


# Search


def drawn(folder, rng, n_subjects, per_subject, dim=8):
    """Make a gallery of random templates, rows in an order of their own as after many refreshes."""
    n = n_subjects * per_subject
    templates = rng.standard_normal((n, dim)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    rows = rng.permutation(n).tolist()
    shown = [(f"s{at // per_subject:04}", f"{at:05}.jpg", rows[at]) for at in range(n)]
    return gallery_of(folder, templates, shown)


def naive(found, probe, top):
    """Return the best subjects of all samples compared one by one, with the names looked at from the start."""
    best = {}
    for sample in found.samples:
        similarity = float((found.templates[sample.row] * probe.astype(np.float64)).sum())
        if sample.subject not in best or similarity > best[sample.subject][0]:
            best[sample.subject] = (similarity, sample.path)
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:top]
    return [(subject, path, similarity) for subject, (similarity, path) in ranked]


def assert_as_naive(found, probes, top):
    for probe, candidates in zip(probes, found.search(probes, top), strict=True):
        assert [candidate.rank for candidate in candidates] == list(range(1, len(candidates) + 1))
        got = [(one.subject, one.path, one.similarity) for one in candidates]
        assert got == naive(found, probe, top)


@pytest.mark.parametrize(
    ("n_subjects", "per_subject", "top"),
    [(1, 1, 5), (7, 3, 3), (40, 4, 1), (30, 1, 30), (600, 2, 9), (4, 300, 3)],
)
@pytest.mark.parametrize("with_copy", [False, True])
def test_search_equals_a_naive_loop(monkeypatch, tmp_path, n_subjects, per_subject, top, with_copy):
    for limit in ("_SCORES", "_BLAS_SCORES", "_FEW", "_GROUP"):
        monkeypatch.setattr(search, limit, 2)
    monkeypatch.setattr(int8_copy, "CHUNK_BYTES", 512)
    monkeypatch.setattr(int8_copy, "WORTH_BYTES", 0 if with_copy else 1 << 30)
    rng = np.random.default_rng(n_subjects)
    found = drawn(tmp_path, rng, n_subjects, per_subject)
    probes = rng.standard_normal((9, 8)).astype(np.float32)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    covered = n_subjects * per_subject // 64 * 64 if with_copy else 0
    assert found._moment.now.compact.n_rows == covered
    assert_as_naive(found, probes, top)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_search_with_ties_and_shared_rows_equals_a_naive_loop(data):
    """Few different templates, photos of several subjects, rows of nobody, subjects not enrolled in their order."""
    n_rows = data.draw(st.integers(1, 12))
    few = np.eye(3, dtype=np.float32)
    templates = few[data.draw(st.lists(st.integers(0, 2), min_size=n_rows, max_size=n_rows))]
    names = data.draw(st.permutations(["a", "b", "c", "d", "e"]))
    places = st.tuples(st.sampled_from(names), st.sampled_from(["1.jpg", "2.jpg", "x/1.jpg"]))
    shown = data.draw(st.dictionaries(places, st.integers(0, n_rows - 1)))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        found = gallery_of(Path(folder), templates, [(*place, row) for place, row in shown.items()])
        assert_as_naive(found, few, data.draw(st.integers(1, 6)))
        del found


def test_similarities_do_not_depend_on_company(tmp_path):
    rng = np.random.default_rng(0)
    found = drawn(tmp_path, rng, 50, 2, dim=128)
    probes = rng.standard_normal((17, 128)).astype(np.float32)
    assert [found.search(probe, 5)[0] for probe in probes] == found.search(probes, 5)


def test_ties_go_by_subject_then_path(people, cache):
    put(people, "Eve/b.jpg", b"ada 1")
    put(people, "Eve/a.jpg", b"ada 1")
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    [candidates] = found.search(template(b"ada 1"), 2)
    assert [(one.subject, one.path) for one in candidates] == [("Ada", "Ada/1.jpg"), ("Eve", "Eve/a.jpg")]
    [candidates] = found.search(template(b"ada 1"), 1)
    assert [one.subject for one in candidates] == ["Ada"]


def test_a_probe_may_pass_over_its_own_row(people, cache):
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    rows = [sample.row for sample in found.samples]
    candidates = found.search(found.templates[rows], 3, exclude_rows=np.array(rows))
    assert [one.subject for one in candidates[2]] == ["Ada"]
    assert {one.path for one in candidates[0]} == {"Ada/2.jpg", "Bob/deep/er/1.JPG"}
    kept_own = found.search(found.templates[rows], 1, exclude_rows=np.array([-1, -1, -1]))
    assert [one.similarity for [one] in kept_own] == pytest.approx([1, 1, 1])


def test_rows_of_removed_photos_are_never_found(people, cache):
    refresh(people, StandIn(), cache_dir=cache)
    shutil.rmtree(people / "Bob")
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    [candidates] = found.search(template(b"bob 1"), 10)
    assert [one.subject for one in candidates] == ["Ada"]


def test_a_gallery_whose_photos_all_failed_finds_nobody(tmp_path, cache):
    put(tmp_path / "people", "Ada/1.jpg", b"noface")
    found, report = refresh(tmp_path / "people", StandIn(), cache_dir=cache)
    assert found.search(template(b"x"), 5) == [[]]
    assert report.without_template == ("Ada",)


def test_bad_probes_are_refused(people, cache):
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    with pytest.raises(EmbedderMismatch, match="1 x 8 cannot be compared with templates of 16"):
        found.search(np.ones((1, 8), np.float32), 1)
    with pytest.raises(BadInput, match="not finite"):
        found.search(np.full((1, DIM), np.nan, np.float32), 1)
    with pytest.raises(UsageError, match="best 0"):
        found.search(np.ones((1, DIM), np.float32), 0)


def test_a_gallery_that_was_overtaken_answers_from_the_later_moment(people, cache, settled):
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    assert found.search(template(b"bob 1"), 1)[0][0].subject == "Bob"
    shutil.rmtree(people / "Bob")
    put(people, "Cyd/1.jpg", b"cyd 1")
    refresh(people, StandIn(), cache_dir=cache)
    [candidates] = found.search(template(b"cyd 1"), 10)
    assert [one.subject for one in candidates][0] == "Cyd"
    assert {one.subject for one in candidates} == {"Ada", "Cyd"}
    assert (found.subjects, found.n_subjects, found.n_samples) == (("Ada", "Cyd"), 2, 3)


@pytest.mark.parametrize("how", ["compacted", "lost"])
def test_rows_of_before_they_were_numbered_anew_are_refused(people, cache, settled, how):
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    probe, row = template(b"ada 2"), next(one.row for one in found.samples if one.path == "Ada/2.jpg")
    owned, folder = found.owned(), folder_of(people)
    at = owned.rows.tolist().index(row)
    assert owned.path_of(at) == "Ada/2.jpg"
    (people / "Ada/1.jpg").unlink()
    if how == "compacted":
        refresh(people, StandIn(), cache_dir=cache)
        vacuum.compact(folder, DIM)
    else:
        (folder / "templates.npy").rename(folder / "lost")
        refresh(people, StandIn(), cache_dir=cache)
    assert found.search(probe, 1)[0][0].path == "Ada/2.jpg"
    with pytest.raises(DatabaseError, match="other rows since it was opened; open it again"):
        found.search(probe, 1, exclude_rows=np.array([row]))
    assert owned.path_of(at) == "a photo that cannot be told any more"
    opened = Gallery.open(people, "standin-16", DIM, cache_dir=cache)
    own = next(one.row for one in opened.samples if one.path == "Ada/2.jpg")
    assert opened.search(probe, 1, exclude_rows=np.array([own]))[0][0].path == "Bob/deep/er/1.JPG"


def test_a_gallery_does_not_stop_a_writer(people, cache, settled):
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    found.search(template(b"bob 1"), 1)
    assert found.samples
    put(people, "Cyd/1.jpg", b"cyd 1")
    connection = sqlite3.connect(folder_of(people) / "index.sqlite", timeout=0, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    connection.close()


def test_templates_of_a_subject(people, cache):
    found, _ = refresh(people, StandIn(), cache_dir=cache)
    np.testing.assert_array_equal(found.templates_of("Ada"), [template(b"ada 1"), template(b"ada 2")])
    with pytest.raises(DatabaseError, match="no subject 'ada' .*did you mean 'Ada'"):
        found.templates_of("ada")
