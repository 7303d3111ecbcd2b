"""Ctrl-C, SIGTERM and SIGHUP at the worst moments: in imports, in callbacks, while a file is closed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX"),
]


@pytest.fixture
def start(people, cache_dir, tmp_path):
    """Start Python with arguments in an empty folder; returns the process."""

    def hears_signals():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    def begin(*arguments, preexec_fn=hears_signals):
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "FACECLI_CACHE": str(cache_dir),
                "FACECLI_HOME": str(tmp_path),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec_fn,
        )

    return begin


def hit(moment):
    """Return a program that runs facecli with the patch `moment`, which calls `kill()` where it hurts."""
    return f"""
import os, signal, sys
def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    for _ in range(1000): pass
from facecli.__main__ import main
{moment}
main()
"""


MOMENTS = {
    "turned into another error, as an import in C does": """
import facecli.templates.embedder as module
def broken(*_, **__):
    try: kill()
    except KeyboardInterrupt: raise SystemError("initialization failed")
module.Embedder.__init__ = broken
""",
    "amid an import": """
import facecli.cli.inputs
class Loader:
    def find_spec(self, name, *_):
        if name == "facecli.photos.source": kill()
sys.modules.pop("facecli.photos.source")
sys.modules.pop("facecli.templates.embedder")
sys.meta_path.insert(0, Loader())
""",
    "while a thread is at work that never ends": """
import threading
threading.Thread(target=threading.Event().wait).start()
import facecli.cli.output as module
module.os.replace = lambda *_: kill()
""",
    "swallowed": """
import facecli.photos.find as module
old = module.find_images
def swallow(*arguments):
    try: kill()
    except KeyboardInterrupt: pass
    return old(*arguments)
module.find_images = swallow
""",
    "before the command is there": """
import facecli.cli.streams as module
module.prepare = kill
""",
    "while the output is closed": """
import facecli.cli.output as module
module.os.replace = lambda *_: kill()
""",
    "again and again": """
import facecli.cli.output as module
def often(*_):
    try: kill()
    finally: kill(signal.SIGINT), kill()
module.os.replace = often
""",
    "when all is done": """
import facecli.cli.app as module
old = module.app
def late(**options):
    try: old(**options)
    finally: kill()
module.app = late
""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_worst_moments(moment, start, probes, tmp_path):
    process = start("-c", hit(MOMENTS[moment]), "embed", probes, "-q", "-o", "x.jsonl")
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), said
    assert "Traceback" not in said
    assert said in ("", "facecli: ended by SIGTERM\n")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["x.jsonl"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_at_any_moment(number, start, probes, people, tmp_path):
    chance = random.Random(number)
    seen = set()
    for _ in range(12):
        process = start(
            "-m", "facecli", "verify", probes / "clara.jpg", people / "Clara" / "1.jpg", "-o", "x.csv"
        )
        # From when Python itself has started, which ends with 1 when it is interrupted before.
        time.sleep(chance.uniform(0.25, 1.2))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        # At the very end the system's own way of ending is back, which a shell shows as the same code.
        seen.add(process.returncode)
        assert process.returncode in (0, 128 + number, -number), said
        assert {path.name for path in tmp_path.iterdir()} <= {"x.csv"}
    assert 128 + number in seen


def test_what_is_ignored_stays_ignored(start, probes):
    """As nohup and a shell's background do it."""

    def deaf():
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    moment = """
import facecli.photos.find as module
old = module.find_images
def loud(*arguments):
    kill(signal.SIGHUP), kill(signal.SIGINT)
    return old(*arguments)
module.find_images = loud
"""
    process = start("-c", hit(moment), "embed", probes, preexec_fn=deaf)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, len(out.splitlines())) == (0, 4)
