"""Spoils databases at random and runs every command on them: nothing outside is touched, nothing hangs, no bug.

    python benchmarks/fuzz_database.py [--minutes 10] [--seed 0] [--keep FOLDER] [--json FILE]

A database of made-up people is enrolled by a stand-in for the embedder. Copies of it are spoilt in one to four ways:
bytes of the index, its journal, the matrix and the compact copy are changed, cut or swapped; SQL puts values of other
types and sizes into any column, adds and drops tables, views and triggers; links, hard links, pipes and folders stand
under every name of a store; imports hold numbers that are none. Then find, verify, embed, status, check, repair,
export, import, forget, gc and migrate's comparison run in an order drawn, each in a process that is watched.

A command may succeed or fail with an error of facecli's. Anything else that is raised, a command of more than 10 s, a
process of more than 1 GiB, a change to the folder beside the database, and a database that does not work after a
repair and an enrolment are counted as failures, printed, and kept in FOLDER. Exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from standin import DIM, StandIn, half_commit, template  # noqa: E402

from facecli.errors import DatabaseError, FaceError  # noqa: E402
from facecli.gallery.gallery import Gallery  # noqa: E402
from facecli.gallery.refresh import refresh  # noqa: E402
from facecli.gallery.store import int8_copy, row_owners, view  # noqa: E402
from facecli.gallery.upkeep.agreement import compare_embedders  # noqa: E402
from facecli.gallery.upkeep.export import exported  # noqa: E402
from facecli.gallery.upkeep.forget import forget  # noqa: E402
from facecli.gallery.upkeep.gc import clear  # noqa: E402
from facecli.gallery.upkeep.report import check_records, failure_records, imported_paths, status_records  # noqa: E402
from facecli.gallery.upkeep.take_in import import_templates  # noqa: E402
from facecli.recognition.false_alarms import false_alarms  # noqa: E402
from facecli.templates.blocks import read_blocks  # noqa: E402

ID = f"standin-{DIM}"
COMMAND_SECONDS = 10
PROCESS_BYTES = 1 << 30
FILES = ("index.sqlite", "index.sqlite-journal", "templates.npy", "compact.npy")
NAMES = (
    *(*FILES, "templates.npy.swap", "lock", "index.sqlite-wal", "index.sqlite-shm", "index.sqlite.part"),
    *("index.sqlite.part-journal", "index.sqlite.damaged", "templates.npy.part", "compact.npy.part"),
    *("templates.npy.swap.part", "../.gitignore"),
)
VALUES = (
    *(
        "NULL",
        "0",
        "-1",
        "1",
        "2",
        "7",
        "2147483648",
        "1099511627776",
        "9223372036854775807",
        "-9223372036854775808",
    ),
    *(
        "1.5",
        "1e308",
        "-1e308",
        "9e999",
        "'abc'",
        "''",
        "'7'",
        "x''",
        "x'00'",
        "x'ff'",
        "x'2e2e'",
        "x'2f6574632f78'",
    ),
    *("zeroblob(16384)", "zeroblob(1000000)", "hex(zeroblob(100000))", "CAST(x'fffe' AS TEXT)", "random()"),
    *(
        "randomblob(40)",
        "'{'",
        "'../../x'",
        "x'2e2e2f2e2e2f78'",
        "'templates.npy.swap'",
        "char(10, 27, 0, 65)",
    ),
)
COLUMNS = {
    "facts": ("key", "value"),
    "subjects": ("id", "name", "fingerprint", "n_samples", "n_failed", "n_several"),
    "contents": (
        *("id", "digest", "row", "face", "n_faces", "probability", "geometry", "code", "message", "limits"),
    ),
    "samples": ("subject", "path", "stat", "content"),
    "owners": ("chunk", "subjects"),
    "sqlite_sequence": ("name", "seq"),
    "sqlite_master": ("type", "name", "tbl_name", "rootpage", "sql"),
}
SCHEMES = (
    "DROP TABLE {table}",
    "DROP TABLE {table}; CREATE VIEW {table} AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT i AS id, i AS name, i AS key, i AS value, i AS row, i AS subject, i AS chunk FROM n",
    "CREATE TRIGGER extra AFTER UPDATE ON {table} BEGIN DELETE FROM samples; END",
    "CREATE TRIGGER extra BEFORE INSERT ON {table} BEGIN SELECT RAISE(IGNORE); END",
    "CREATE INDEX extra ON {table} (rowid)",
    "CREATE TABLE extra (x)",
    "PRAGMA user_version = {number}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA auto_vacuum = FULL; VACUUM",
    "PRAGMA encoding = 'UTF-16'; VACUUM",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE rowid % 2",
    "INSERT INTO facts VALUES ('swap', {value})",
    "INSERT INTO facts VALUES ('erase', {value})",
    "INSERT INTO facts VALUES ('swap', 'templates.npy.swap')",
)


def make(base: Path) -> Path:
    """Enrol a database of 60 photos, with imports, failures and a compact copy; return its folder."""
    root = base / "people"
    for at in range(60):
        path = root / f"person {at % 12}" / f"{at}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((b"noface %d" if at % 10 == 9 else b"face %d") % at)
        os.utime(path, ns=(10**18, 10**18))
    refresh(root, StandIn(), cache_dir=base / "cache")
    refresh(root, StandIn(dim=8), cache_dir=base / "cache")
    take_in(root, base / "cache", [record("Dee", at) for at in range(70)])
    (base / "outside").mkdir()
    for name in ("letter", "x.part", "index.sqlite.damaged"):
        (base / "outside" / name).write_bytes(b"dear diary")
    return root


def record(subject: str, at: int) -> dict[str, object]:
    return {
        "schema": "facecli.embed/1",
        "path": f"{at}",
        "subject": subject,
        "face": 0,
        "n_faces": 1,
        "box": [1, 2, 3, 4],
        "landmarks": [[1, 2]] * 5,
        "probability": 0.9,
        "embedder_id": ID,
        "embedding": template(b"%d" % at).tolist(),
    }


def take_in(root: Path, cache: Path, records: list[dict[str, object]]) -> None:
    blocks = read_blocks([json.dumps(one) for one in records], embedder_id=ID, dim=DIM)
    import_templates(root, blocks, embedder_id=ID, dim=DIM, cache_dir=cache)


# How a database is spoilt: each takes the folder of the store and what draws.


def flip(store: Path, draw: random.Random) -> str:
    """Change some bytes, everywhere or at the beginning of a page."""
    path = store / draw.choice(FILES)
    if not path.is_file() or not path.stat().st_size:
        return "nothing"
    data = bytearray(path.read_bytes())
    n = draw.choice((1, 1, 1, 4, 30, 1000))
    for _ in range(n):
        at = draw.randrange(len(data))
        if draw.random() < 0.5:
            at = min(len(data) - 1, at // 4096 * 4096 + draw.randrange(120))
        data[at] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256), data[at] ^ 1 << draw.randrange(8)))
    path.write_bytes(data)
    return f"{n} bytes of {path.name}"


def cut_or_swap(store: Path, draw: random.Random) -> str:
    path = store / draw.choice(FILES)
    if not path.is_file():
        return "nothing"
    data = path.read_bytes()
    kind = draw.choice(("cut", "longer", "pages", "empty", "other"))
    if kind == "cut":
        data = data[: draw.randrange(len(data) + 1)]
    elif kind == "longer":
        data += draw.randbytes(draw.choice((1, 512, 5000)))
    elif kind == "pages":
        pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
        for _ in range(draw.randrange(1, 5)):
            pages[draw.randrange(len(pages))] = draw.choice(pages)
        data = b"".join(pages)
    elif kind == "empty":
        data = b""
    else:
        data = (store / draw.choice(FILES[::2])).read_bytes() if (store / FILES[0]).is_file() else b"x"
    path.write_bytes(data)
    return f"{kind} of {path.name}"


def _for_sqlite(store: Path) -> bool:
    """Say whether SQLite itself, which waits for pipes, may be let at the index to spoil it."""
    return (store / "index.sqlite").is_file() and not any(
        (store / f"index.sqlite{ending}").is_fifo() for ending in ("", "-journal", "-wal", "-shm")
    )


def say(store: Path, draw: random.Random) -> str:
    """Let the index say something else."""
    statements = []
    for _ in range(draw.randrange(1, 4)):
        table = draw.choice(list(COLUMNS))
        value = draw.choice(VALUES)
        if draw.random() < 0.3:
            statement = draw.choice(SCHEMES).format(table=table, value=value, number=draw.randrange(-1, 5))
        else:
            column = draw.choice(COLUMNS[table])
            where = draw.choice(("", "", f" WHERE abs(random()) % {draw.randrange(2, 9)} = 0"))
            statement = f"UPDATE OR REPLACE {table} SET {column} = {value}{where}"
        statements.append(statement)
    if _for_sqlite(store):
        with (
            contextlib.suppress(sqlite3.Error, UnicodeDecodeError),
            closing(sqlite3.connect(store / "index.sqlite", isolation_level=None)) as connection,
        ):
            connection.create_function("random", 0, lambda: draw.randrange(-(1 << 63), 1 << 63))
            connection.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                    connection.executescript(statement)
    return "; ".join(statements)


def link(store: Path, draw: random.Random) -> str:
    outside = store.parents[2] / "outside"
    path, kind = (
        store / draw.choice(NAMES),
        draw.choice(("link", "dangling", "hard", "pipe", "folder", "itself")),
    )
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(outside / draw.choice(("letter", "x.part", ".")))
    elif kind == "dangling":
        path.symlink_to(outside / "new")
    elif kind == "hard":
        os.link(outside / "letter", path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "theirs").touch()
    else:
        path.symlink_to(path.name)
    return f"{kind} at {path.name}"


def link_folder(store: Path, draw: random.Random) -> str:
    path = draw.choice((store, store.parent))
    target = store.parents[2] / "outside" / draw.choice((".", "nowhere"))
    if path.is_symlink() or not path.is_dir():
        return "nothing"
    shutil.rmtree(path)
    path.symlink_to(target)
    return f"link at {path.name}"


def break_off(store: Path, draw: random.Random) -> str:
    """Leave half a commit, perhaps with a journal that leads elsewhere."""
    if not _for_sqlite(store):
        return "nothing"
    with contextlib.suppress(AssertionError):
        half_commit(store)
    journal = store / "index.sqlite-journal"
    if draw.random() < 0.5 and journal.is_file():
        name = os.fsencode(store.parents[2] / "outside" / "letter")
        with open(journal, "ab") as file:
            file.write(bytes(4) + name + len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big"))
            file.write(bytes.fromhex("d9d505f920a163d7"))
    return "half a commit"


def spoil_rows(store: Path, draw: random.Random) -> str:
    path = store / "templates.npy"
    if not path.is_file() or path.is_symlink():
        return "nothing"
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 5, 100))):
        at = 128 + 4 * draw.randrange(max(1, (len(data) - 128) // 4))
        value = draw.choice((np.nan, np.inf, -np.inf, 1e30, -1e6, 3.0, 0.0, 1e-40))
        data[at : at + 4] = np.float32(value).tobytes()
    path.write_bytes(data)
    return "numbers of templates.npy"


WAYS = (flip, flip, flip, cut_or_swap, say, say, say, say, link, link, link_folder, break_off, spoil_rows)


# What is run on it.


def _migrated(root: Path, cache: Path, draw: random.Random) -> object:
    old, new = (Gallery.open(root, f"standin-{dim}", dim, cache_dir=cache) for dim in (DIM, 8))
    return compare_embedders(old, new, imported=imported_paths(root, StandIn(), cache))


def _imported(root: Path, cache: Path, draw: random.Random) -> None:
    one = record(draw.choice(("Dee", "New")), draw.randrange(99))
    if draw.random() < 0.5:
        key = draw.choice(list(one))
        one[key] = draw.choice(
            (None, -1, 1e400, float("nan"), "x", "../x", "\ud800", [], [1], {}, 10**40, True)
        )
    take_in(root, cache, [one])


def _exported(root: Path, cache: Path, draw: random.Random) -> None:
    with exported(root, embedder_id=ID, dim=DIM, cache_dir=cache) as (_, found):
        for one in found:
            json.dumps({**one, "embedding": one["embedding"].tolist()}, allow_nan=False).encode()


def _checked(root: Path, cache: Path, repairing: bool, n_embed: int = 0) -> list[dict[str, object]]:
    return list(
        check_records(
            root,
            cache,
            enroller=StandIn() if n_embed else None,
            n_embed=n_embed,
            seed=0,
            repairing=repairing,
            progress=lambda done, total: None,
            notify=lambda text: None,
        )
    )


def _searched(root: Path, cache: Path, draw: random.Random) -> None:
    gallery = Gallery.open(root, ID, DIM, cache_dir=cache)
    for probe in (template(b"face 1"), np.stack([template(b"%d" % at) for at in range(9)])):
        for candidates in gallery.search(probe, draw.choice((1, 5, 1000))):
            for one in candidates:
                if not abs(one.similarity) <= 1.003:
                    raise AssertionError(f"a similarity of {one.similarity}")
                f"{one.subject}{one.path}".encode()


COMMANDS: dict[str, Callable[[Path, Path, random.Random], object]] = {
    "find": _searched,
    "verify": lambda root, cache, draw: Gallery.open(root, ID, DIM, cache_dir=cache).templates_of("person 1"),
    "alarms": lambda root, cache, draw: false_alarms(Gallery.open(root, ID, DIM, cache_dir=cache), 0.9, 0.01),
    "embed": lambda root, cache, draw: refresh(root, StandIn(), cache_dir=cache),
    "embed smaller faces": lambda root, cache, draw: refresh(root, StandIn(min_face=9), cache_dir=cache),
    "status": lambda root, cache, draw: json.dumps(list(status_records(root, cache, look=True))).encode(),
    "failures": lambda root, cache, draw: json.dumps(list(failure_records(root, cache))).encode(),
    "check": lambda root, cache, draw: _checked(root, cache, False, draw.choice((0, 5))),
    "repair": lambda root, cache, draw: _checked(root, cache, True),
    "export": _exported,
    "import": _imported,
    "forget": lambda root, cache, draw: forget(root, "person 3", cache_dir=cache, photos=draw.random() < 0.3),
    "gc": lambda root, cache, draw: clear(root, cache_dir=cache, keep_only=draw.choice((None, ID, "other"))),
    "migrate": _migrated,
}


class TooLong(BaseException):
    """Of a command that takes more than `COMMAND_SECONDS`."""


def _held(path: Path) -> object:
    return path.read_bytes() if path.is_file() else path.is_dir() and sorted(os.listdir(path))


def outside(base: Path) -> dict[str, object]:
    top = base / "outside"
    return {
        str(path): (path.lstat().st_mode, os.readlink(path) if path.is_symlink() else _held(path))
        for path in (top, *sorted(top.rglob("*")))
    }


def attempt(base: Path, seed: int) -> tuple[list[str], list[str], str]:
    """Spoil the copy in `base` and run commands; return how, what was run with its outcome, and what went wrong."""
    draw = random.Random(seed)
    root, cache = base / "people", base / "cache"
    store = root / ".facecli" / ID
    if draw.random() < 0.5:
        view.WORTH_BYTES = 0
    ways = []
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        # What was spoilt already may not let itself be spoilt once more.
        with contextlib.suppress(OSError):
            ways.append(draw.choice(WAYS)(store, draw))
    before, ran = outside(base), []
    names = draw.sample(list(COMMANDS), draw.randrange(1, len(COMMANDS) + 1))
    for name in [*names, "last repair", "last embed", "last check"]:
        # What a command says goes to the log, and so does what NumPy has to remark.
        signal.alarm(COMMAND_SECONDS)
        try:
            if name == "last repair":
                with contextlib.suppress(DatabaseError):
                    _checked(root, cache, True)
            elif name == "last embed":
                refresh(root, StandIn(), cache_dir=cache)
                _searched(root, cache, draw)
                _exported(root, cache, draw)
            elif name == "last check":
                if not all(one["sound"] for one in _checked(root, cache, False)):
                    return ways, ran, "not sound after a repair and an enrolment"
            else:
                COMMANDS[name](root, cache, draw)
            ran.append(f"{name}: 0")
        except FaceError as error:
            ran.append(f"{name}: {error}")
            if name.startswith("last") and "newer facecli" not in str(error):
                return ways, ran, f"{name}: {error}"
        except TooLong:
            return ways, ran, f"{name}: more than {COMMAND_SECONDS} s\n{traceback.format_exc()}"
        except Exception:
            return ways, ran, f"{name}: {traceback.format_exc()}"
        finally:
            signal.alarm(0)
        if outside(base) != before:
            return ways, ran, f"{name}: something outside was changed"
    return ways, ran, ""


def child(base: Path, seeds: range, report: int) -> None:
    """Try seeds one after the other in this process, and write a line of JSON for each to the pipe `report`."""

    def too_long(number: int, frame: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, too_long)
    warnings.simplefilter("error")
    with open(report, "w", encoding="utf-8") as out:
        for seed in seeds:
            out.write(json.dumps({"begun": seed}) + "\n")
            out.flush()
            here = base / "now"
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(base / "sound", here, symlinks=True)
            ways, ran, wrong = attempt(here, seed)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if not wrong and peak > PROCESS_BYTES:
                wrong = f"{peak >> 20} MB"
            out.write(json.dumps({"seed": seed, "ways": ways, "ran": ran, "wrong": wrong}) + "\n")
            if wrong:
                return


def _killing(process: int) -> threading.Timer:
    """Kill what says nothing for so long that not even the alarm can have reached it."""
    watch = threading.Timer(2 * COMMAND_SECONDS, os.kill, (process, signal.SIGKILL))
    watch.daemon = True
    watch.start()
    return watch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where databases that failed are kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    int8_copy.WORTH_BYTES, int8_copy.CHUNK_BYTES, row_owners.CHUNK = 0, 64 * DIM, 16
    end = time.monotonic() + 60 * options.minutes
    seed, begun, tried, commands, failed = options.seed, 0, 0, Counter(), []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        base = Path(folder)
        (base / "sound").mkdir()
        make(base / "sound")
        while time.monotonic() < end:
            seeds = range(seed, seed + 200)
            reading, writing = os.pipe()
            process = os.fork()
            if not process:
                os.close(reading)
                try:
                    child(base, seeds, writing)
                except BaseException:
                    traceback.print_exc()
                finally:
                    # What the parent has to clean up is not the child's.
                    os._exit(0)
            os.close(writing)
            with open(reading, encoding="utf-8") as lines:
                watch = _killing(process)
                for line in lines:
                    watch.cancel()
                    watch = _killing(process)
                    one = json.loads(line)
                    if "begun" in one:
                        seed, begun = one["begun"] + 1, begun + 1
                        continue
                    tried += 1
                    for name, outcome in (said.split(": ", 1) for said in one["ran"]):
                        commands[name, "done" if outcome == "0" else "refused"] += 1
                    if one["wrong"]:
                        failed.append(one)
                        print(f"seed {one['seed']}: {one['ways']}\n{one['wrong']}", flush=True)
                    if time.monotonic() > end:
                        os.kill(process, signal.SIGKILL)
                        break
                watch.cancel()
            _, status = os.waitpid(process, 0)
            if begun != tried and time.monotonic() < end:
                failed.append({"seed": seed - 1, "wrong": f"the process ended with {status}"})
                print(f"seed {seed - 1}: the process ended with {status}", flush=True)
                begun = tried
            if options.keep is not None and failed and failed[-1]["seed"] == seed - 1:
                with contextlib.suppress(shutil.Error):
                    # Pipes stay behind.
                    shutil.copytree(
                        base / "now", options.keep / str(seed - 1), symlinks=True, dirs_exist_ok=True
                    )
    print(
        f"{tried:,} databases were spoilt, {sum(commands.values()):,} commands run on them, {len(failed)} failures"
    )
    for name in sorted({name for name, _ in commands}):
        print(f"  {name:20} done {commands[name, 'done']:7,}  refused {commands[name, 'refused']:7,}")
    if options.json is not None:
        options.json.write_text(json.dumps({"tried": tried, "failed": failed}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
