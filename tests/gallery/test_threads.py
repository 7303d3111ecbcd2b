"""One gallery, several threads: no errors, and the answers that one thread gets at the moment that is searched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import numpy as np
import pytest
from standin import DIM, gallery_of, template

from facecli.gallery.gallery import Gallery
from facecli.gallery.store.names import Photo
from facecli.gallery.store.vacuum import compact
from facecli.gallery.store.writer import Store
from facecli.templates.template import Enrolled

N_THREADS = 4
N_COMMITS = 30
N_OLD = 10
"""Subjects that are enrolled before, each with two photos."""
EVERYBODY = 1000
"""More subjects than there are: an answer that names all of them tells the moment that was searched."""


@pytest.fixture
def gallery(tmp_path):
    templates = np.stack([template(b"old %d" % row) for row in range(2 * N_OLD)])
    shown = [(f"old {row // 2}", f"{row}.jpg", row) for row in range(len(templates))]
    return gallery_of(tmp_path / "people", templates, shown)


def fresh(gallery):
    return Gallery(gallery.root, gallery.embedder_id, gallery.root, DIM)


def enrol(folder, number):
    """Enrol two photos each of somebody new and somebody old, and take away a photo of the latter, in one commit."""
    old = number % N_OLD
    results, samples = {}, []
    for subject in (f"new {number}", f"old {old}"):
        for path in (f"{number}-1.jpg", f"{number}-2.jpg"):
            content = f"{subject}/{path}".encode()
            digest = content.ljust(32)
            results[digest] = Enrolled(template(content), (0, 0, 1, 1), ((0, 0),) * 5, 0.9, 0, 1)
            samples.append((Photo(subject.encode(), path.encode(), "1 2 3 4", 1), digest))
    removed = [(b"old %d" % old, b"%d.jpg" % (2 * old))] if number < N_OLD else []
    with Store.writing(folder, DIM, None) as store:
        store.commit(results, samples, removed, limits="", complete=True)


@pytest.mark.parametrize("n_searches", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_threads_search_a_gallery_while_another_thread_enrols(gallery, n_searches):
    probes = np.stack([template(b"probe %d" % thread) for thread in range(N_THREADS)])
    moments = [gallery.search(probes, EVERYBODY)]
    under_way = Event()

    def change():
        assert under_way.wait(60)
        for number in range(N_COMMITS):
            if number == N_COMMITS // 2:
                compact(gallery.root, DIM)
            enrol(gallery.root, number)
            moments.append(fresh(gallery).search(probes, EVERYBODY))

    def search(thread):
        """Return (moments known before, moments known after, answer) of each search, to the end of the changes."""
        seen = []
        while len(seen) < n_searches or not changing.done():
            before = len(moments)
            (answer,) = gallery.search(probes[thread], EVERYBODY)
            seen.append((before, len(moments), answer))
            under_way.set()
        return seen

    with ThreadPoolExecutor(N_THREADS + 1) as pool:
        changing = pool.submit(change)
        searching = [pool.submit(search, thread) for thread in range(N_THREADS)]
        changing.result()
        searched = [task.result() for task in searching]

    assert all(len(moment[0]) == N_OLD + number for number, moment in enumerate(moments))
    several_moments = set()
    for thread, seen in enumerate(searched):
        for before, after, answer in seen:
            at = len(answer) - N_OLD
            # Nothing older than what was committed when it began, nor newer than what was being committed at its end.
            assert before - 1 <= at <= after
            assert answer == moments[at][thread]
            several_moments.add(at)
    assert len(several_moments) > 3
    assert gallery.search(probes, EVERYBODY) == moments[-1] == fresh(gallery).search(probes, EVERYBODY)


def test_what_is_asked_of_one_moment_fits_together(gallery):
    """A compaction would give the rows other numbers between two questions."""

    def change():
        enrol(gallery.root, 0)
        compact(gallery.root, DIM)

    with ThreadPoolExecutor(1) as pool:
        with gallery.one_moment():
            samples = gallery.samples_of("old 9")
            changing = pool.submit(change)
            assert not wait([changing], timeout=0.2).done
            templates = gallery.templates_of("old 9")
            np.testing.assert_array_equal(gallery.templates[[sample.row for sample in samples]], templates)
        changing.result()
    later = gallery.samples_of("old 9")
    assert [sample.row for sample in later] != [sample.row for sample in samples]
    np.testing.assert_array_equal(gallery.templates_of("old 9"), templates)


def test_threads_look_up_names_while_another_thread_enrols(gallery):
    def change():
        for number in range(N_OLD):
            enrol(gallery.root, number)

    def look(thread):
        for number in range(40):
            subject = f"old {(thread + number) % N_OLD}"
            names = [sample.path for sample in gallery.samples_of(subject)]
            assert all(name.startswith(f"{subject}/") for name in names)
            # One photo was taken away in the commit that brought two.
            assert len(names) in (2, 3)
            assert len(gallery.templates_of(subject)) in (2, 3)
            assert (len(gallery.samples) - 2 * N_OLD) % 3 == 0
            owned = gallery.owned()
            assert len(owned.rows) == len(owned.people)
            # Or that it cannot be told any more: the photo may be the one that was taken away.
            assert owned.path_of(0)

    with ThreadPoolExecutor(N_THREADS + 1) as pool:
        tasks = [pool.submit(change), *(pool.submit(look, thread) for thread in range(N_THREADS))]
        for task in tasks:
            task.result()
    assert len(gallery.subjects) == 2 * N_OLD
