"""The drawing of the house: which file may know which, what may be imported when, and what a library never does."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "facecli"

# A file knows files of the rows above its own, never of its own row or below: a new one finds its place here.
# `models` is one room, whose files know each other.
LAYERS = """
errors config hooks arrays data distributed fingerprint owners pairwise schedule tensorboard train_config
atomic files table intervals matrix align augment miners retrieval samplers
images index census download curve output pairs commands losses train_plot compact
pyramid metrics models comparisons classifiers reader search
face
detect moment bootstrap probability draw freeze run_folder
choice calibration template
embedder
contents calibration_file calibrate calibration_report training_data memory
records store rule
start
templates_file template_blocks sources survey places recipe
enrolment layout store_folder learner
gallery scores template_import template_export
trials identify verify doctor validation agreement compaction inventory integrity
scored evidence alarms leftovers repair freshness
figures train_events forget db_report
evaluate groups compare sweep train
evaluate_search worst eval_data text_plot
evaluation
eval_records plots
report
options
cli_evidence cli_eval_data cli_match cli_embed cli_db_templates
cli_db cli_calibrate cli_eval cli_train
cli
__main__
"""
ROW = {name: row for row, line in enumerate(LAYERS.split("\n")) for name in line.split()}

TORCH_AT_ONCE = {
    "augment",
    "classifiers",
    "distributed",
    "freeze",
    "learner",
    "losses",
    "memory",
    "miners",
    "pairwise",
    "recipe",
    "run_folder",
    "start",
    "train",
    "models.architectures",
    "models.backbones",
    "models.dlib_resnet",
    "models.export",
}
"""Where torch is imported with the module. The rest of models/ and the engine import it inside functions."""

TALKS = {"__main__", "cli", "commands", "output"}
"""Who may print, exit and read arguments; `sources` and the commands read stdin."""


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        name = name.removesuffix(".__init__")
        if name != "__init__":
            yield name, path


FILES = dict(modules())
NAMES = set(FILES)


def imports(path):
    """Yield (module, imported inside a function) for each import of a file but those for type checkers."""

    def within(node, lazy):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module is not None:
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    is_module = inner.removeprefix("facecli.") in NAMES
                    yield (inner if is_module else child.module), lazy
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from within(child, lazy or function)

    yield from within(ast.parse(path.read_text(encoding="utf-8")), False)


def room(name):
    """Return the room of a file; the engine moves in with the models next."""
    return "models" if name == "engine" else name.split(".")[0]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_arrows_go_one_way(name):
    assert room(name) in ROW, f"give {name} a place in LAYERS"
    for imported, _ in imports(FILES[name]):
        if not imported.startswith("facecli."):
            continue
        other = room(imported.removeprefix("facecli."))
        if other != room(name) or other != "models":
            assert ROW[other] < ROW[room(name)], f"{name} must not know {other}"


def test_torch_is_imported_where_it_is_allowed():
    for name, path in modules():
        for imported, lazy in imports(path):
            if room(imported) not in ("torch", "torchvision", "facenet_pytorch"):
                continue
            if lazy:
                assert room(name) in ("models", "train") or name in TORCH_AT_ONCE, name
            else:
                assert name in TORCH_AT_ONCE, f"{name} imports {imported} with the module"


def test_typer_stays_in_the_command_line_and_rich_in_the_output():
    for name, path in modules():
        known = {room(imported) for imported, _ in imports(path)}
        if "typer" in known or "click" in known:
            assert name.startswith("cli") or name in ("options", "commands"), name
        if "rich" in known:
            assert name in ("output", "cli"), name
        if "matplotlib" in known:
            assert name in ("plots", "report", "train_plot"), name


def test_the_library_never_prints_exits_or_reads_arguments_and_environment():
    for name, path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        used = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        if name not in TALKS:
            assert not said & {"print", "exit", "quit", "input"}, name
            assert not used & {"sys.exit", "sys.argv", "sys.stdout", "sys.stderr"}, name
        assert not used & {"os.environ", "os.getenv", "os.abort"}, name
        if not name.startswith("cli") and name not in ("options", "sources"):
            assert "sys.stdin" not in used, name


def test_files_are_one_idea_long():
    for name, path in modules():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 372, f"{name} is more than one idea"


def test_no_assertion_on_input_and_no_exception_swallowed():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{name} asserts"
            if isinstance(node, ast.ExceptHandler):
                kinds = ast.dump(node.type) if node.type is not None else "BaseException"
                last_resort = name == "commands" and "'Exception'" in kinds
                assert last_resort or ("'Exception'" not in kinds and "BaseException" not in kinds), name


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


HEAVY = "{'numpy', 'torch', 'onnx', 'onnxruntime', 'PIL', 'facenet_pytorch', 'matplotlib', 'scipy'}"


def test_the_command_line_is_imported_without_anything_heavy():
    assert run(f"import sys, facecli.cli; print(sorted({HEAVY} & set(sys.modules)))") == "[]"


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\nfrom facecli.__main__ import main\n"
        "sys.argv = ['facecli', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    for arguments in (
        ["--help"],
        ["--version"],
        ["verify", "--help"],
        ["find", "--help"],
        ["embed", "--help"],
        ["db", "--help"],
        ["db", "import", "--help"],
    ):
        assert run(code, *arguments) == "[]", arguments


def test_one_shot_commands_import_no_torch_and_no_onnx(cache_dir, people, probes, tmp_path):
    """Once the networks are exported: torch alone would cost two seconds."""
    shutil.copytree(people, tmp_path / "people")
    code = (
        "import sys\nfrom facecli.__main__ import main\n"
        "cache, home, *arguments = sys.argv[1:]\n"
        "sys.argv = ['facecli', '--cache', cache, '--home', home, *arguments]\n"
        "try: main()\nexcept SystemExit as end: assert end.code in (0, 1), end.code\n"
        "print(sorted({'torch', 'torchvision', 'onnx', 'facenet_pytorch', 'scipy', 'rich'} & set(sys.modules)))"
    )
    first, second = people / "Clara" / "1.jpg", probes / "clara.jpg"
    where = (cache_dir, tmp_path / "home")
    run(code, *where, "verify", first, second, "--threshold", "0.9")
    assert run(code, *where, "verify", first, second, "--threshold", "0.9") == "[]"
    assert run(code, *where, "find", second, "--db", tmp_path / "people", "--threshold", "0.9") == "[]"
    assert run(code, *where, "embed", second) == "[]"
