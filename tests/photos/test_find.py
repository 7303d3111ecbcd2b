"""Finding and reading files: order, links, odd names, and one clear error for whatever goes wrong."""

from __future__ import annotations

import itertools
import os
import string
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecli.errors import FaceError, NoSuchFile, UnreadableImage
from facecli.photos.find import IMAGE_ENDINGS, digest, find_images, read, walk

NOT_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop this user"
)


def names(root: Path) -> list[str]:
    return [os.path.relpath(entry.path, root) for entry in walk(root)]


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


# walk


def test_walk_gives_files_by_name_then_subfolders_by_name(tmp_path):
    tree(tmp_path, "b/2.jpg", "b/10.jpg", "a/z.png", "a/b/c.gif", "z.jpg", "A.jpg")
    assert names(tmp_path) == ["A.jpg", "z.jpg", "a/z.png", "a/b/c.gif", "b/10.jpg", "b/2.jpg"]


def test_walk_takes_image_endings_in_any_case_and_nothing_else(tmp_path):
    wanted = [f"a{ending}" for ending in IMAGE_ENDINGS] + ["B.JPG", "c.Jpeg", "d.tar.PNG"]
    tree(tmp_path, *wanted, "notes.txt", "jpg", "x.jpg.part", "Thumbs.db", "noending", "end.")
    assert names(tmp_path) == sorted(wanted)


def test_walk_skips_what_is_hidden(tmp_path):
    tree(tmp_path, ".hidden.jpg", ".facecli/a.jpg", "._copy.jpg", "seen.jpg", "a/.b/c.jpg")
    assert names(tmp_path) == ["seen.jpg"]


def test_walk_starts_in_a_hidden_folder_that_was_named(tmp_path):
    assert names(tree(tmp_path / ".mine", "a.jpg")) == ["a.jpg"]


def test_walk_visits_a_folder_once_however_many_links_lead_to_it(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(".")
    (tmp_path / "c").symlink_to("a")
    assert names(tmp_path) == ["a/1.jpg", "b/2.jpg"]


def test_walk_follows_links_out_of_the_folder(tmp_path):
    tree(tmp_path, "elsewhere/1.jpg", "other.jpg", "people/own.jpg")
    (tmp_path / "people" / "ann").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "people" / "one.jpg").symlink_to(tmp_path / "other.jpg")
    assert names(tmp_path / "people") == ["one.jpg", "own.jpg", "ann/1.jpg"]


def test_walk_shows_broken_links_so_that_they_become_errors(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    assert names(tmp_path) == ["gone.jpg", "loop.jpg"]
    with pytest.raises(NoSuchFile, match="link to 'nowhere.jpg', which does not exist"):
        read(tmp_path / "gone.jpg")
    with pytest.raises(UnreadableImage, match="loop.jpg: cannot be read"):
        read(tmp_path / "loop.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_walk_leaves_out_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tree(tmp_path, "a.jpg")) == ["a.jpg"]


def test_walk_enters_a_folder_that_is_named_like_an_image(tmp_path):
    assert names(tree(tmp_path, "x.jpg/y.jpg")) == ["x.jpg/y.jpg"]


@NOT_ROOT
def test_a_folder_that_may_not_be_listed_becomes_an_error(tmp_path):
    tree(tmp_path, "a/1.jpg", "closed/2.jpg", "z/3.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        assert names(tmp_path) == ["a/1.jpg", "closed", "z/3.jpg"]
        with pytest.raises(UnreadableImage, match="is a folder that you may not list"):
            read(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_walk_gives_the_stat_of_the_file_behind_a_link(tmp_path):
    tree(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    truth = os.stat(tmp_path / "a.jpg")
    for entry in walk(tmp_path):
        got = entry.stat
        assert (got.st_size, got.st_mtime_ns, got.st_ctime_ns, got.st_ino) == (
            (truth.st_size, truth.st_mtime_ns, truth.st_ctime_ns, truth.st_ino)
        )


def test_walk_begins_its_paths_with_the_folder_as_it_was_named(tmp_path, monkeypatch):
    tree(tmp_path, "people/a/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert [entry.path for entry in walk("people")] == [os.path.join("people", "a", "1.jpg")]
    assert [entry.path for entry in walk(Path("people/"))] == [os.path.join("people", "a", "1.jpg")]


def test_walk_of_something_else_is_an_error(tmp_path):
    with pytest.raises(NoSuchFile, match="nowhere: no such folder"):
        list(walk(tmp_path / "nowhere"))
    with pytest.raises(UnreadableImage, match="a.jpg: is a file, not a folder"):
        list(walk(tree(tmp_path, "a.jpg") / "a.jpg"))


def test_walk_keeps_no_more_than_one_folder_in_memory(tmp_path):
    for folder in range(40):
        tree(tmp_path, *(f"{folder:02d}/{'long' * 20}{file:03d}.jpg" for file in range(50)))
    tracemalloc.start()
    count = sum(1 for _ in walk(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    # The names alone take 260 kB.
    assert peak < 60_000


parts = st.lists(st.text(string.ascii_letters + " .é\n", min_size=1, max_size=6), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(parts, st.sampled_from([".jpg", ".PNG", ".txt", ""])), max_size=8))
def test_walk_agrees_with_os_walk(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("tree")
    for path, ending in files:
        clean = [part for part in path if part.strip(".")] or ["x"]
        target = root.joinpath(*clean[:-1], clean[-1] + ending)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"x")
        except OSError:
            # A name that is a folder already, or a file where a folder is needed.
            continue
    expected = []
    for here, folders, found in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        expected += [
            os.path.join(here, name)
            for name in sorted(found)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_ENDINGS
        ]
    assert [entry.path for entry in walk(root)] == expected


# find_images


def test_a_named_file_is_kept_whatever_its_ending_and_whether_or_not_it_is_there(tmp_path):
    tree(tmp_path, "scan.xyz", "a.jpg")
    wanted = [tmp_path / "scan.xyz", tmp_path / "missing.jpg", tmp_path / "a.jpg", tmp_path / "a.jpg"]
    assert list(find_images(wanted)) == wanted
    assert list(find_images(str(path) for path in wanted)) == wanted


def test_a_folder_is_walked_in_its_place(tmp_path):
    tree(tmp_path, "a/2.jpg", "a/1.jpg", "0.jpg", "empty/notes.txt")
    found = find_images([tmp_path / "a", tmp_path / "empty", tmp_path / "0.jpg"])
    assert [path.name for path in found] == ["1.jpg", "2.jpg", "0.jpg"]


def test_a_pattern_that_the_shell_left_alone_is_expanded(tmp_path):
    tree(tmp_path, "b.jpg", "a.jpg", "c.png", ".d.jpg", "sub1/x.jpg", "sub2/y.jpg")
    assert [path.name for path in find_images([tmp_path / "*.jpg"])] == ["a.jpg", "b.jpg"]
    assert [path.name for path in find_images([f"{tmp_path}/[ac].*"])] == ["a.jpg", "c.png"]
    assert [path.name for path in find_images([tmp_path / "sub*"])] == ["x.jpg", "y.jpg"]


def test_a_pattern_that_matches_nothing_becomes_an_error(tmp_path):
    (path,) = find_images([tmp_path / "*.jpg"])
    with pytest.raises(NoSuchFile, match="no file matches this pattern"):
        read(path)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    tree(tmp_path, "photo[1].jpg", "photo1.jpg")
    assert [path.name for path in find_images([tmp_path / "photo[1].jpg"])] == ["photo[1].jpg"]


def test_paths_are_taken_one_at_a_time(tmp_path):
    endless = find_images(tmp_path / f"{number}.jpg" for number in itertools.count())
    assert [path.name for path in itertools.islice(endless, 3)] == ["0.jpg", "1.jpg", "2.jpg"]


# read


@pytest.mark.parametrize(
    "name",
    [b"with space.jpg", b"new\nline.jpg", "Zoë 文.jpg".encode(), b"-dash.jpg", b"caf\xe9.jpg", b"a'\"$.jpg"],
)
def test_odd_names_are_found_and_read_and_can_be_shown(tmp_path, name):
    try:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    except OSError:
        pytest.skip("this file system refuses the name")
    (path,) = find_images([tmp_path])
    assert os.fsencode(path.name) == name
    assert read(path) == name
    path.unlink()
    with pytest.raises(NoSuchFile) as caught:
        read(path)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize(
    ("asked", "advice"),
    [
        ("Ann.JPG", "did you mean '{}/Ann.jpg'?"),
        ("Ann.jpeg", "did you mean '{}/Ann.jpg'?"),
        ("An.jpg", "did you mean '{}/Ann.jpg'?"),
        ("zebra.png", ""),
        ("people/Ann.jpg", "its folder does not exist or cannot be listed"),
        ("Ann.jpg/Ann.jpg", "its folder does not exist or cannot be listed"),
        ("nul\0.jpg", ""),
    ],
)
def test_a_missing_file_is_named_with_the_nearest_that_is_there(tmp_path, asked, advice):
    tree(tmp_path, "Ann.jpg", "bob.png")
    with pytest.raises(NoSuchFile) as caught:
        read(tmp_path / asked)
    assert caught.value.what == "no such file"
    assert caught.value.hint == advice.format(tmp_path)


def test_a_missing_file_of_the_current_folder_gets_a_hint_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "Ann.jpg"))
    with pytest.raises(NoSuchFile, match="did you mean 'Ann.jpg'?"):
        read("ann.jpg")


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    with open(tmp_path / "huge.jpg", "wb") as file:
        # A hole takes no room on the disk, but reading it would not fit into any memory.
        file.truncate(1 << 40)
    cases = {"": "is a folder, not an image", "empty.jpg": "is empty", "huge.jpg": "is larger than 1024 MiB"}
    for name, words in cases.items():
        with pytest.raises(UnreadableImage, match=words) as caught:
            read(tmp_path / name)
        assert caught.value.path == str(tmp_path / name)
    with pytest.raises(FaceError, match="too long"):
        read(tmp_path / ("x" * 300 + ".jpg"))


@NOT_ROOT
def test_a_file_without_permission(tmp_path):
    tree(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").chmod(0)
    with pytest.raises(UnreadableImage, match=r"cannot be read \(permission denied\)"):
        read(tmp_path / "a.jpg")


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="this system has no /dev/fd")
def test_a_pipe_is_read_to_its_end():
    out, into = os.pipe()
    os.write(into, b"picture")
    os.close(into)
    assert read(f"/dev/fd/{out}") == b"picture"
    os.close(out)


def test_digest_is_sha256():
    # FIPS 180-2, appendix B.1.
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
