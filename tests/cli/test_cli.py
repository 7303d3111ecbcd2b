"""The command line as its users see it: what goes to stdout and stderr, and how each command ends."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from facecli import __version__
from facecli.calibration import files
from facecli.cli.app import app
from facecli.gallery.refresh import refresh
from facecli.models.built_in import BUILT_IN, DETECTOR_FILES

REPOSITORY = Path(__file__).parents[2]
TRANSCRIPTS = Path(__file__).with_name("transcripts.txt")
"""Commands as typed, their stdout, their stderr behind `! `, their exit code where it is not 0."""


@pytest.fixture(scope="module")
def home(tmp_path_factory, calibration):
    """The user's folder, with a calibration made up for the sample faces installed."""
    folder = tmp_path_factory.mktemp("home")
    files.install(calibration, folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, people, probes, group, home, cache_dir, embedder):
    """A folder to work in: an enrolled people/, probes/, an empty folder, photos and lists, good and bad."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(people, folder / "people")
    shutil.copytree(probes, folder / "probes")
    shutil.copy(group, folder / "group.png")
    Image.new("RGB", (300, 200), (90, 90, 90)).save(folder / "blank.png")
    (folder / "text.jpg").write_text("this is no photo")
    (folder / "pairs.csv").write_text(
        "left,right,mated\n"
        "people/Clara/1.jpg,probes/clara.jpg,1\n"
        "people/Clara/1.jpg,probes/hugo.jpg,0\n"
        "people/Clara/1.jpg,text.jpg,0\n"
    )
    (folder / "bad.csv").write_text("left,right\npeople/Clara/1.jpg,probes/clara.jpg\nprobes/hugo.jpg\n")
    (folder / "nothing.csv").write_text("one,two\na,b\n")
    (folder / "empty").mkdir()
    done = run(folder, home, cache_dir, "embed --db people -q")
    assert done.exit_code == 0
    return folder


PROBES = ("clara", "hugo", "stranger-1", "stranger-2")


def environment(home, cache_dir):
    return {"FACECLI_CACHE": str(cache_dir), "FACECLI_HOME": str(home), "COLUMNS": "130", "TERM": "xterm"}


def run(folder, home, cache_dir, command, stdin=None):
    words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    here = os.getcwd()
    os.chdir(folder)
    try:
        return CliRunner(env=environment(home, cache_dir)).invoke(
            app, words, input=stdin, prog_name="facecli"
        )
    finally:
        os.chdir(here)


@pytest.fixture
def facecli(world, home, cache_dir):
    """Run a command in this process: returns its exit_code, stdout and stderr."""
    return lambda command, stdin=None, folder=world: run(folder, home, cache_dir, command, stdin)


@pytest.fixture
def shell(world, home, cache_dir):
    """Start a command as the shell does; returns the process."""

    def start(command, folder=world, program=("-m", "facecli"), **options):
        words = shlex.split(command) if isinstance(command, str) else command
        pythonpath = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, **environment(home, cache_dir), "PYTHONPATH": pythonpath}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

        def hears_signals():
            # A shell's background jobs ignore SIGINT, what nohup starts SIGHUP, and their children with them.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

        return subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=folder,
            env=env,
            preexec_fn=hears_signals,
            **{**pipes, **options},
        )

    return start


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def rows(text, dialect="excel"):
    return list(csv.DictReader(io.StringIO(text, newline=""), dialect=dialect))


def steady(text, **names):
    """Leave out what differs from machine to machine: folders, last digits, the widths of columns."""
    for name, folder in names.items():
        text = text.replace(str(folder), name.upper())
    text = re.sub(r"(sface|dlib)(-aligned)?-[0-9a-f]{12}", "EMBEDDER", text)
    text = re.sub(r"\[-?\d+\.\d+(, -?\d+\.\d+){3}\]", "BOX", text)
    text = re.sub(r"\[-?[\d.e-]+(, -?[\d.e-]+){127}\]", "EMBEDDING", text)
    text = re.sub(r"\[(\[-?[\d.]+, -?[\d.]+\](, )?){5}\]", "LANDMARKS", text)
    text = re.sub(r"-?\d+\.\d{3,}(e-\d+)?", lambda number: f"{float(number[0]):.2g}", text)
    return re.sub(r"  +", "  ", re.sub(r" +(?=\n|$)", "", text))


def transcript(command, done, **names):
    said = "".join(f"! {line}\n" for line in steady(done.stderr, **names).splitlines())
    code = f"[exit {done.exit_code}]\n" if done.exit_code else ""
    return f"$ facecli {command}\n{steady(done.stdout, **names)}{said}{code}"


EXPECTED = {
    text.split("\n", 1)[0].removeprefix("$ facecli "): text
    for text in re.split(r"\n(?=\$ facecli )", TRANSCRIPTS.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("command", EXPECTED)
def test_transcript(command, facecli, world, home):
    found = transcript(command, facecli(command), home=home, world=world)
    assert found.splitlines() == EXPECTED[command].splitlines()


def said_by_typer(done):
    return re.sub(r"[\s\u2500-\u257f]+", " ", done.stderr)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("find probes/clara.jpg", "Missing option '--db'"),
        ("find", "Missing"),
        ("find probes/clara.jpg --db people --top 0", "Invalid value for '--top'"),
        ("verify a b --fmr much", "Invalid value for '--fmr'"),
        ("verify a b --frm 0.1", "No such option: --frm"),
        ("verify a b --format xml", "'xml' is not one of 'auto', 'table', 'jsonl', 'csv', 'tsv'"),
        ("verify a b --faces all", "'all' is not one of 'largest', 'center', 'main', 'one'"),
        ("find a --db b --faces most", "'most' is not one of 'largest', 'center', 'main', 'all', 'one'"),
        ("vrify a b", "No such command 'vrify'"),
    ],
)
def test_wrong_options_end_with_2(command, said, facecli):
    done = facecli(command)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in said_by_typer(done)


@pytest.mark.parametrize("command", ["verify", "find", "embed", "models", "doctor", ""])
def test_help_fits_a_narrow_terminal_and_lists_examples_without_gaps(command, facecli):
    done = facecli(f"{command} --help")
    assert done.exit_code == 0
    assert done.stderr == ""
    if command:
        examples = done.stdout.split("Examples:")[1].split("\u256d")[0]
        lines = [line.strip() for line in examples.strip().splitlines()]
        assert len(lines) >= 2
        assert all(line.startswith("\u2022 ") for line in lines)


def test_no_arguments_show_the_help(facecli):
    done = facecli("")
    assert "Usage: facecli [OPTIONS] COMMAND" in done.stdout + done.stderr
    assert done.exit_code in (0, 2)  # Typer's versions differ


AGREED = [
    ("verify people/Clara/1.jpg probes/clara.jpg", 0),
    ("verify people/Clara/1.jpg probes/hugo.jpg -f csv", 1),
    ("verify people/Clara/1.jpg text.jpg", 2),
    ("verify --pairs pairs.csv -f tsv", 2),
    ("find probes --db people -f table", 0),
    ("find probes/stranger-1.jpg --db people -f csv", 1),
    ("embed blank.png probes/clara.jpg -f csv", 2),
    ("embed probes -q", 0),
    ("find probes", 2),
]


@pytest.mark.parametrize(("command", "code"), AGREED)
def test_the_shell_sees_what_the_runner_sees(command, code, facecli, shell):
    process = shell(command)
    stdout, stderr = process.communicate(timeout=60)
    done = facecli(command)
    assert process.returncode == done.exit_code == code
    assert stdout.decode() == done.stdout
    assert stderr.decode() == done.stderr


BUG = (
    "import sys, facecli.recognition.verify\n"
    "def broken(*_): raise LookupError('no such thing')\n"
    "facecli.recognition.verify.verify_photos = broken\n"
    "from facecli.__main__ import main\n"
    "sys.argv[0] = 'facecli'\n"
    "main()"
)


def test_a_bug_ends_with_70_and_asks_for_a_report(shell, facecli, monkeypatch):
    command = ["verify", "people/Clara/1.jpg", "probes/clara.jpg"]
    process = shell(command, program=("-c", BUG))
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 70
    assert stdout == b""
    assert b"Traceback" in stderr
    assert b"facecli: this is a bug (LookupError); please report it with the lines above" in stderr
    monkeypatch.setattr("facecli.recognition.verify.verify_photos", lambda *_: 1 / 0)
    done = facecli(command)
    assert done.exit_code == 70
    assert "this is a bug (ZeroDivisionError)" in done.stderr


@pytest.fixture(scope="module")
def many(tmp_path_factory, people):
    """More photos than can be embedded while a test looks: copies with different bytes after their end."""
    folder = tmp_path_factory.mktemp("many") / "people"
    data = {name: (people / name / "1.jpg").read_bytes() for name in ("Clara", "Hugo")}
    for number in range(600):
        name = ("Clara", "Hugo")[number % 2]
        path = folder / name / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[name] + f"{number}".encode())
    return folder


ENDED = [
    (signal.SIGINT, 130, b"facecli: interrupted\n"),
    (signal.SIGTERM, 143, b"facecli: ended by SIGTERM\n"),
    (signal.SIGHUP, 129, b"facecli: ended by SIGHUP\n"),
]


@pytest.mark.parametrize(("number", "code", "said"), ENDED)
def test_a_run_that_a_signal_ends_says_so_and_keeps_its_records(number, code, said, many, shell):
    process = shell(["embed", many])
    first = process.stdout.readline()
    process.send_signal(number)
    # Not `communicate`, which would not see what `readline` took ahead.
    rest, stderr = process.stdout.read(), process.stderr.read()
    assert process.wait(timeout=30) == code
    assert stderr == said
    found = records((first + rest).decode())
    assert 1 <= len(found) < 600
    assert all("embedding" in record for record in found)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "said"), ENDED)
@pytest.mark.parametrize("name", ["x.jsonl", "x.npy"])
def test_a_run_that_a_signal_ends_writes_no_file(name, number, code, said, many, shell, tmp_path):
    (tmp_path / name).write_text("old")
    process = shell(["embed", many, "-o", name], folder=tmp_path)
    while not any(part.stat().st_size for part in tmp_path.glob(".*.part")):
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_closed_pipe_ends_with_141_and_without_a_word(form, many, shell):
    process = shell(["embed", many, "-f", form])
    assert process.stdout.readline()
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(timeout=30) == 141
    assert stderr == b""


@pytest.mark.parametrize(
    "command", ["--help", "find --help", "find probes --db people -f table", "models -f csv"]
)
def test_a_pipe_that_nobody_reads_is_no_non_match(command, shell):
    reader, writer = os.pipe()
    os.close(reader)
    process = shell(command, stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 141
    assert b"Traceback" not in stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_an_error_and_no_bug(shell):
    with open("/dev/full", "w") as full:
        process = shell("embed probes", stdout=full)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert stderr == b"facecli: error: the output cannot be written (no space left on device)\n"


IMPATIENT = (
    "import sys, facecli.cli.notes\n"
    "facecli.cli.notes.PATIENCE_SECONDS = 0\n"
    "from facecli.__main__ import main\n"
    "main()"
)


def on_a_terminal(shell, command):
    """Return what a terminal of 100 columns shows for a command, progress from the start, and its exit code."""
    ours, theirs = pty.openpty()
    import fcntl
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = shell(command, program=("-c", IMPATIENT), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    return shown.decode(), process.wait(timeout=30)


@pytest.mark.slow
def test_a_terminal_gets_a_table_with_colours_and_progress(shell, many, tmp_path):
    shown, code = on_a_terminal(shell, "find probes/clara.jpg probes/stranger-1.jpg --db people -k 1")
    assert code == 0
    assert "\x1b[32m" in shown  # the row of the match is green
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "")
    # Photos copied a moment ago are looked at again, with a bar above the table.
    lines = [line for line in plain.splitlines() if line.strip() and not line.startswith("enrolling")]
    assert lines[0].split()[:4] == ["probe", "face", "quality", "rank"]
    assert lines[2].split()[:4] == ["probes/stranger-1.jpg", "0", "99.9", "unknown"]
    assert lines[-1].startswith("facecli: threshold 0.")
    (tmp_path / "people" / "Clara").mkdir(parents=True)
    for path in sorted((many / "Clara").iterdir())[:40]:
        shutil.copy(path, tmp_path / "people" / "Clara")
    shown, code = on_a_terminal(shell, f"embed --db {tmp_path / 'people'}")
    assert code == 0
    assert "enrolling" in shown
    assert "40/40" in shown
    assert "1 people, 40 photos" in shown


@pytest.mark.slow
def test_records_that_run_over_a_terminal_meet_no_bar(shell):
    shown, code = on_a_terminal(shell, "embed probes -f jsonl")
    assert code == 0
    assert "embedding \u2501" not in shown
    assert [record["path"] for record in records(shown)] == sorted(f"probes/{name}.jpg" for name in PROBES)


@pytest.mark.parametrize(
    ("name", "form"), [("x.csv", "csv"), ("x.tsv", "tsv"), ("x.jsonl", "jsonl"), ("x", "jsonl")]
)
def test_output_to_a_file_takes_the_format_from_its_ending(name, form, facecli, tmp_path):
    command = "find probes --db people -k 1"
    done = facecli([*shlex.split(command), "-o", tmp_path / name])
    assert done.stdout == ""
    assert (tmp_path / name).read_text() == facecli(f"{command} -f {form}").stdout
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_pair_leaves_the_file_whole(facecli, tmp_path):
    done = facecli(["verify", "--pairs", "pairs.csv", "-o", tmp_path / "x.csv"])
    assert done.exit_code == 2
    assert [row["error"][:10] for row in rows((tmp_path / "x.csv").read_text())] == ["", "", "unreadable"]


def test_a_usage_error_leaves_the_file_alone(facecli, tmp_path):
    (tmp_path / "x.csv").write_text("old")
    assert facecli(["verify", "text.jpg", "blank.png", "-o", tmp_path / "x.csv"]).exit_code == 2
    assert (tmp_path / "x.csv").read_text() == "old"


@pytest.mark.slow
def test_templates_on_disk_and_in_pipes_are_the_same_probes(facecli, tmp_path):
    npy = tmp_path / "faces.npy"
    done = facecli(["embed", "probes", "group.png", "-o", npy])
    assert done.exit_code == 0
    assert done.stdout == ""
    assert done.stderr == f"facecli: 10 templates of 128 numbers in {npy}, their table beside it\n"
    piped = facecli("embed probes group.png").stdout
    direct = facecli("find probes group.png --db people").stdout
    assert facecli("find - --db people", stdin=piped).stdout == direct
    assert facecli(["find", npy, "--db", "people"]).stdout == direct
    array = np.load(npy)
    np.testing.assert_array_equal(array, np.array([r["embedding"] for r in records(piped)], np.float32))
    table = rows(facecli("embed probes group.png -f csv").stdout)
    np.testing.assert_array_equal(array, np.array([json.loads(r["embedding"]) for r in table], np.float32))


@pytest.mark.parametrize("command", ["embed -", "find - --db people -k 1"])
def test_paths_on_stdin(command, facecli):
    names = "probes/clara.jpg\n\nprobes/stranger-1.jpg\r\nnowhere.jpg\n"
    done = facecli(command, stdin=names)
    assert done.exit_code == 2
    found = records(done.stdout)
    assert [record.get("path", record.get("probe")) for record in found] == [
        "probes/clara.jpg",
        "probes/stranger-1.jpg",
        "nowhere.jpg",
    ]
    assert found[2]["error"]["code"] == "no_such_file"


@pytest.mark.parametrize("command", ["embed -", "find - --db people"])
def test_nothing_on_stdin_is_nothing_found(command, facecli):
    done = facecli(command, stdin="")
    assert done.stdout == ""
    assert done.exit_code == (0 if command == "embed -" else 1)


def test_photos_and_stdin_keep_their_order(facecli):
    done = facecli("embed probes/hugo.jpg - probes/stranger-2.jpg", stdin="probes/clara.jpg\n")
    assert [record["path"] for record in records(done.stdout)] == [
        "probes/hugo.jpg",
        "probes/clara.jpg",
        "probes/stranger-2.jpg",
    ]


def test_error_records_pass_through_the_pipe(facecli):
    piped = facecli("embed probes/clara.jpg text.jpg blank.png probes/hugo.jpg")
    assert piped.exit_code == 2
    done = facecli("find - --db people -k 1", stdin=piped.stdout)
    assert done.exit_code == 2
    found = records(done.stdout)
    assert [record.get("subject") for record in found] == ["Clara", None, None, "Hugo"]
    assert [record["error"] for record in found[1:3]] == [
        record["error"] for record in records(piped.stdout)[1:3]
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda line: re.sub(r"sface-[0-9a-f]{12}", "sface-000000000000", line),
            "was made by 'sface-000000000000'",
        ),
        (lambda line: line[:-20], "stdin: line 2: is not JSON"),
        (lambda line: '{"x": 1}', "stdin: line 2: has the schema None"),
    ],
)
def test_a_record_that_cannot_be_used_ends_the_pipe_with_2(change, said, facecli):
    lines = facecli("embed probes").stdout.splitlines()
    lines[1] = change(lines[1])
    done = facecli("find - --db people", stdin="\n".join(lines))
    assert done.exit_code == 2
    assert said in done.stderr
    assert "this is a bug" not in done.stderr


def test_templates_of_another_embedder_are_refused(facecli, tmp_path):
    facecli(["embed", "probes", "--aligned", "-o", tmp_path / "x.npy"])
    done = facecli(["find", tmp_path / "x.npy", "--db", "people"])
    assert done.exit_code == 2
    assert "x.csv, row 0: the template was made by 'sface-aligned-" in done.stderr


def test_another_detector_has_templates_and_needs_a_calibration_of_its_own(facecli):
    own, other = (
        records(facecli(f"embed probes/clara.jpg --detector {name} -f jsonl").stdout)[0]
        for name in ("mtcnn", "yunet-mtcnn")
    )
    assert own["embedder_id"] != other["embedder_id"]
    np.testing.assert_allclose(own["landmarks"], other["landmarks"], atol=5)
    refused = facecli("verify probes/clara.jpg people/Clara/1.jpg --detector yunet")
    assert refused.exit_code == 2
    assert "make one with: facecli calibrate" in refused.stderr
    on_gpu = facecli("embed probes/clara.jpg --detector yunet --device torch")
    assert on_gpu.exit_code == 2
    assert "YuNet has no torch form; run it with --device cpu" in on_gpu.stderr


def test_pairs_from_stdin_and_from_another_root(facecli, tmp_path):
    listed = "left,right\nClara/1.jpg,Clara/2.jpg\n"
    expected = facecli("verify --pairs - --root people -f csv", stdin=listed)
    assert expected.exit_code == 0
    (tmp_path / "pairs.csv").write_text(listed)
    done = facecli(["verify", "--pairs", tmp_path / "pairs.csv", "--root", "people", "-f", "csv"])
    assert done.stdout == expected.stdout
    assert rows(done.stdout)[0]["match"] == "true"
    lost = facecli(["verify", "--pairs", tmp_path / "pairs.csv"])
    assert lost.exit_code == 2
    assert records(lost.stdout)[0]["error"]["code"] == "no_such_file"


def test_only_the_cache_is_left(facecli, world, tmp_path):
    shutil.copytree(world / "people", tmp_path / "people")
    for folder in (tmp_path / "people").iterdir():
        if folder.name != ".facecli":
            shutil.rmtree(folder)
    command = "find probes/clara.jpg --db {} -k 1 -f csv"
    done = facecli(command.format(tmp_path / "people") + " --no-refresh")
    assert done.exit_code == 0
    assert done.stdout == facecli(command.format("people")).stdout
    refused = facecli(command.format(tmp_path / "people"))
    assert refused.exit_code == 2
    assert "--no-refresh uses the templates that are kept" in refused.stderr


@pytest.mark.slow
def test_an_enrolment_cut_off_before_its_first_photo_is_no_answer(
    facecli, world, embedder, cache_dir, tmp_path
):
    shutil.copytree(world / "people", tmp_path / "people", ignore=shutil.ignore_patterns(".facecli"))

    class CutOff:
        id, dim, limits = embedder.id, embedder.dim, embedder.limits

        def enrol(self, photos):
            raise KeyboardInterrupt
            yield

    with pytest.raises(KeyboardInterrupt):
        refresh(tmp_path / "people", CutOff(), cache_dir=cache_dir)
    for command in ("find probes/clara.jpg", "verify probes/clara.jpg --subject Clara"):
        done = facecli(f"{command} --db {tmp_path / 'people'} --no-refresh")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nobody is enrolled yet; leave --no-refresh out" in done.stderr
    assert facecli(f"find probes/clara.jpg --db {tmp_path / 'people'}").exit_code == 0


def test_enrolment_takes_the_largest_face_whatever_is_asked_of_the_photo(facecli, world, tmp_path):
    folder = tmp_path / "people" / "Arthur"
    folder.mkdir(parents=True)
    shutil.copy(world / "group.png", folder)
    db = tmp_path / "people"
    done = facecli(["verify", "group.png", "--db", db, "--subject", "Arthur", "--face", "2", "-q"])
    assert done.exit_code == 1
    done = facecli(["verify", "group.png", "--db", db, "--subject", "Arthur", "--face", "0", "-q"])
    assert done.exit_code == 0


@pytest.mark.slow
def test_new_photos_are_enrolled_and_broken_ones_are_a_warning(facecli, world, tmp_path):
    db = tmp_path / "people"
    for name in ("Clara", "Hugo"):
        shutil.copytree(world / "people" / name, db / name)
    (db / "Hugo" / "odd.jpg").write_text("no photo")
    done = facecli(["find", "probes/clara.jpg", "--db", db])
    assert done.exit_code == 0
    assert f"facecli: {db}: 8 photos enrolled, 0 gone, 8 in all" in done.stderr
    assert "1 photos cannot be used, first Hugo/odd.jpg: is text, not an image" in done.stderr
    listed = facecli(["embed", "--db", db])
    assert listed.exit_code == 2
    assert [(r["path"], r["code"]) for r in records(listed.stdout)] == [("Hugo/odd.jpg", "unreadable")]
    shutil.rmtree(db / "Hugo")
    done = facecli(["find", "probes/hugo.jpg", "--db", db])
    assert done.exit_code == 1
    assert "0 photos enrolled, 5 gone, 4 in all" in done.stderr


def test_a_database_in_which_nobody_can_be_found_is_an_error(facecli, tmp_path):
    (tmp_path / "people" / "Ada").mkdir(parents=True)
    Image.new("RGB", (90, 90)).save(tmp_path / "people" / "Ada" / "1.png")
    done = facecli(["find", "probes/clara.jpg", "--db", tmp_path / "people"])
    assert done.exit_code == 2
    assert "nobody is enrolled: no photo has a usable face" in done.stderr


@pytest.mark.parametrize("name", ["named.jpg", "named.png"])
def test_draw_marks_every_face(name, facecli, world, tmp_path):
    done = facecli(["find", "group.png", "--db", "people", "--draw", tmp_path / name, "--threshold", "0.97"])
    assert done.exit_code == 0
    drawn = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
    plain = np.asarray(Image.open(world / "group.png").convert("RGB")).astype(int)
    assert drawn.shape == plain.shape
    for record in records(done.stdout):
        colour = (40, 180, 90) if record["match"] else (225, 60, 50)
        left, top, right, bottom = (round(side) for side in record["box"])
        edge = drawn[(top + bottom) // 2, left - 1 : left + 3]
        assert abs(edge - colour).max(axis=1).min() < 60, record["subject"]
    assert {record["match"] for record in records(done.stdout)} == {True, False}
    assert (abs(drawn - plain).max(axis=2) > 60).mean() < 0.2


@pytest.mark.parametrize(
    ("target", "said"), [("x.jpgx", "use an ending such as"), ("no/x.jpg", "cannot be written")]
)
def test_a_picture_that_cannot_be_written_is_an_error(target, said, facecli, tmp_path):
    done = facecli(["find", "probes/clara.jpg", "--db", "people", "--draw", tmp_path / target])
    assert done.exit_code == 2
    assert said in done.stderr


def test_no_output_is_written_over_a_photo(facecli, tmp_path):
    photo = tmp_path / "clara.jpg"
    shutil.copy(REPOSITORY / "sample_db" / "probes" / "clara.jpg", photo)
    before = photo.read_bytes()
    for command, said in (
        (["find", photo, "--db", "people", "--draw", photo], "would overwrite the probe"),
        (["find", photo, "--db", "people", "-o", photo], "records go to no picture"),
        (["embed", photo, "-f", "csv", "-o", photo], "records go to no picture"),
        (["verify", photo, photo, "-o", tmp_path / "x.NPY"], "records go to no picture and no array"),
    ):
        done = facecli(command)
        assert done.exit_code == 2
        assert said in done.stderr
        assert photo.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clara.jpg"]


def test_probes_without_a_photo_are_an_error_and_not_nobody_found(facecli):
    done = facecli("find empty --db people")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "empty: no images there" in done.stderr
    assert facecli("find - --db people", stdin="").exit_code == 1


@pytest.mark.parametrize("name", ["x.jsonl", "x.NDJSON", "x.NPY"])
def test_templates_in_a_file_are_probes_whatever_the_case_of_its_ending(name, facecli, tmp_path):
    done = facecli(["embed", "probes", "-f", "jsonl", "-o", tmp_path / name])
    assert done.exit_code == 0
    assert (
        facecli(["find", tmp_path / name, "--db", "people"]).stdout
        == facecli("find probes --db people").stdout
    )


def test_draw_takes_a_folder_with_one_photo_and_refuses_templates(facecli, world, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(world / "probes" / "clara.jpg", tmp_path / "one")
    done = facecli(["find", tmp_path / "one", "--db", "people", "--draw", tmp_path / "x.png"])
    assert done.exit_code == 0
    assert (tmp_path / "x.png").exists()
    for probes in (["-"], ["faces.npy"], ["probes/clara.jpg", "probes/hugo.jpg"]):
        done = facecli(["find", *probes, "--db", "people", "--draw", tmp_path / "y.png"])
        assert done.exit_code == 2
        assert "--draw writes one photo" in done.stderr


ODD_NAMES = [
    "two words.jpg",
    "caf\u00e9 \u4eba\u8138 \U0001f600.jpg",
    "line\nbreak\x1b[2J.jpg",
    "-dash.jpg",
    "*[a]?.jpg",
    "a'b\"c.jpg",
]


@pytest.mark.slow
def test_odd_names_come_through_every_command(facecli, people, probes, tmp_path):
    for name in ODD_NAMES:
        shutil.copy(probes / "clara.jpg", tmp_path / name)
    done = facecli(["embed", "."], folder=tmp_path)
    assert done.exit_code == 0
    assert {Path(record["path"]).name for record in records(done.stdout)} == set(ODD_NAMES)
    # What a terminal or a spreadsheet would obey is escaped in csv.
    in_csv = {name.replace("\n", "\\n").replace("\x1b", "\\x1b") for name in ODD_NAMES}
    in_csv = {f"'{name}" if name[0] in "=+-@" else name for name in in_csv}
    assert {
        Path(row["path"]).name for row in rows(facecli(["embed", ".", "-f", "csv"], folder=tmp_path).stdout)
    } == in_csv
    table = facecli(["embed", ".", "-f", "table"], folder=tmp_path).stdout
    assert "\x1b" not in table
    assert "line\\nbreak" in table
    for name in ODD_NAMES:
        missing = facecli(["verify", "--", f"./x{name}", f"./{name}"], folder=tmp_path)
        assert missing.exit_code == 2
        assert missing.stderr.count("\n") == 1
        assert "\x1b" not in missing.stderr


@pytest.mark.slow
def test_names_that_are_not_utf8(shell, probes, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        with open(name, "wb") as file:
            file.write((probes / "clara.jpg").read_bytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    for command, stdin in (
        (["embed", "."], b""),
        (["embed", "-"], b"./caf\xe9.jpg\n"),
        (["embed", b"./caf\xe9.jpg"], b""),
    ):
        process = shell(command, folder=tmp_path, stdin=subprocess.PIPE)
        stdout, stderr = process.communicate(stdin, timeout=60)
        assert process.returncode == 0, stderr
        (record,) = records(stdout.decode())
        assert record["path"].endswith("caf\\xe9.jpg")
    process = shell(["verify", b"caf\xe9.jpg", b"caf\xe8.jpg"], folder=tmp_path)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith(b"facecli: error: caf\\xe8.jpg: no such file")


def bomb():
    """A PNG whose header announces 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture
def ward(people, tmp_path):
    """One folder with a photo of each kind, and what must come out: a face, or the code of an error."""
    folder = tmp_path / "ward"
    (folder / "deeper").mkdir(parents=True)
    face = Image.open(people / "Clara" / "1.jpg").convert("RGB")
    data = (people / "Clara" / "1.jpg").read_bytes()
    expected = {}

    def keep(name, code, write):
        expected[name] = code
        write(folder / name)

    exif = Image.Exif()
    exif[0x0112] = 6
    keep("turned.jpg", None, lambda p: face.transpose(Image.Transpose.ROTATE_90).save(p, exif=exif))
    keep("grey.png", None, lambda p: face.convert("L").save(p))
    keep("alpha.png", None, lambda p: face.convert("RGBA").save(p))
    keep("cmyk.jpg", None, lambda p: face.convert("CMYK").save(p))
    grey16 = np.asarray(face.convert("L")).astype(np.uint16) * 257
    keep("sixteen.png", None, lambda p: Image.fromarray(grey16).save(p))
    keep("palette.png", None, lambda p: face.convert("P").save(p))
    keep("moving.gif", None, lambda p: face.save(p, save_all=True, append_images=[face.rotate(90)]))
    keep("deeper/webp.jpg", None, lambda p: face.save(p, "WEBP"))
    panorama = Image.new("RGB", (20_000, 240), (128, 128, 128))
    panorama.paste(face, (9_000, 8))
    keep("panorama.jpg", None, lambda p: panorama.save(p, quality=80))
    keep("truncated.jpg", "unreadable", lambda p: p.write_bytes(data[: len(data) // 2]))
    keep("empty.jpg", "unreadable", lambda p: p.write_bytes(b""))
    keep("bomb.png", "unreadable", lambda p: p.write_bytes(bomb()))
    keep("text.jpg", "unreadable", lambda p: p.write_text("no photo"))
    keep("blank.png", "no_face", lambda p: Image.new("RGB", (99, 99)).save(p))
    keep("dangling.jpg", "no_such_file", lambda p: p.symlink_to("nowhere"))
    (folder / "deeper" / "loop").symlink_to(folder)
    (folder / "notes.txt").write_text("not an image by name: passed over")
    (folder / "nothing").mkdir()
    return folder, expected


@pytest.mark.slow
def test_a_folder_of_every_affliction_gives_one_record_each(ward, facecli):
    folder, expected = ward
    done = facecli(["embed", folder])
    assert done.exit_code == 2
    found = {os.path.relpath(record["path"], folder): record for record in records(done.stdout)}
    assert len(records(done.stdout)) == len(found)
    assert {name: record.get("error", {}).get("code") for name, record in found.items()} == expected
    straight = np.array(found["alpha.png"]["embedding"])
    for name in ("turned.jpg", "palette.png", "moving.gif", "deeper/webp.jpg", "cmyk.jpg", "panorama.jpg"):
        assert straight @ np.array(found[name]["embedding"]) > 0.85, name
    broken = [name for name, code in expected.items() if code is not None]
    assert done.stderr.count("\n") == len(broken)
    for name in broken:
        assert f"facecli: warning: {folder / name}: " in done.stderr


def test_heic_where_its_decoder_is_here(people, facecli, tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, the decoder of HEIC, is not installed")
    heif.from_pillow(Image.open(people / "Clara" / "1.jpg").convert("RGB")).save(
        tmp_path / "x.heic", quality=90
    )
    done = facecli(["verify", tmp_path / "x.heic", "people/Clara/1.jpg"])
    assert done.exit_code == 0


def test_models_says_what_is_here(facecli):
    found = {row["name"]: row for row in rows(facecli("models -f csv").stdout)}
    assert list(found) == [*BUILT_IN, *DETECTOR_FILES]
    assert found["sface"]["here"] == found["sface"]["exported"] == found["sface"]["calibrated"] == "true"
    assert found["dlib"]["calibrated"] == "true"
    assert "68-point" in found["dlib"]["licence"]
    assert found["vggface2"]["dim"] == "512"


def test_doctor_finds_this_machine_well(facecli, cache_dir):
    done = facecli("doctor")
    assert done.exit_code == 0
    checks = {record["check"]: record for record in records(done.stdout)}
    assert checks["model dlib answer"]["state"] == "ok"
    assert checks["model dlib calibration"]["state"] == "ok"
    assert str(cache_dir) in checks["cache folder"]["detail"]
    assert not [record for record in checks.values() if record["state"] == "failed"]


def test_doctor_notices_a_network_that_answers_otherwise(facecli, monkeypatch):
    from facecli.cli import examine

    answer = examine.answer_chip
    monkeypatch.setattr(examine, "answer_chip", lambda size: np.ascontiguousarray(answer(size)[..., ::-1]))
    done = facecli("doctor -f csv")
    assert done.exit_code == 2
    (row,) = [row for row in rows(done.stdout) if row["check"] == "model dlib answer"]
    assert row["state"] == "failed"
    assert "differs from the known answer" in row["detail"]


def test_a_cache_folder_that_cannot_be_used_is_an_error(world, home, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(world, home, tmp_path / "file", "embed probes")
    assert done.exit_code == 2
    assert "cannot be kept" in done.stderr
    assert "--cache or FACECLI_CACHE" in done.stderr


def test_the_version_of_the_module_and_the_script_agree(shell):
    stdout, _ = shell("--version").communicate(timeout=30)
    assert stdout.decode() == f"facecli {__version__}\n"


def test_a_threshold_of_another_tool_that_lets_strangers_match_is_remarked_on(facecli):
    done = facecli("verify probes/clara.jpg probes/hugo.jpg --threshold 0.05 -f csv")
    assert "of 100 comparisons of different people match" in done.stderr
    assert done.stderr.count("warning") == 1
    done = facecli("verify probes/clara.jpg probes/hugo.jpg --threshold 0.7 -f csv")
    assert "warning" not in done.stderr


def test_distances_given_as_scores_are_noticed(facecli, tmp_path):
    lines = [f"{0.5 + k / 100},0\n{k / 100},1" for k in range(20)]
    table = tmp_path / "scores.csv"
    table.write_text("\n".join(["similarity,mated", *lines]))
    for command in (["eval"], ["calibrate", "--no-install", "--replicates", "100"]):
        done = facecli([*command, "--scores", table, "-f", "csv"])
        assert "are they distances?" in done.stderr


def test_a_database_of_another_model_is_said_to_be_so_and_stays_usable(facecli, people, tmp_path):
    shutil.copytree(people, tmp_path / "people", ignore=shutil.ignore_patterns(".facecli"))
    facecli(["embed", "--db", "people", "--model", "dlib", "-q"], folder=tmp_path)
    probe = people / "Clara" / "1.jpg"
    done = facecli(["find", probe, "--db", "people", "-k", "1"], folder=tmp_path)
    assert "people: enrolled under dlib-d05d838513bb so far; sface-" in done.stderr
    assert "so far" not in facecli(["find", probe, "--db", "people"], folder=tmp_path).stderr
    old = facecli(["find", probe, "--db", "people", "--model", "dlib", "--no-refresh"], folder=tmp_path)
    assert (old.exit_code, records(old.stdout)[0]["subject"]) == (0, "Clara")
