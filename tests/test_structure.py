"""The drawing of the house: which file may know which, what may be imported when, and what a library never does."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "facecli"

# Which wing may know which, besides the ground floor, which everybody knows.
GROUND = {"", "errors", "config", "hooks", "arrays"}
WINGS = {
    "files": "",
    "stats": "",
    "photos": "",
    "models": "files",
    "calibration": "files stats",
    "faces": "photos models",
    "templates": "files photos models faces",
    "gallery.store": "files templates",
    "gallery": "files photos templates gallery.store",
    "gallery.upkeep": "files photos templates gallery gallery.store",
    "trials": "files photos stats calibration models templates gallery",
    "recognition": "photos stats calibration faces templates gallery trials",
    "evaluation": "files photos stats calibration models templates gallery trials recognition",
    "training.losses": "stats",
    "training": "files photos stats calibration models faces templates training.losses",
    "api": "photos models calibration templates gallery trials recognition evaluation training",
    "cli": "files photos stats calibration models faces templates gallery gallery.upkeep trials recognition evaluation"
    " training training.losses",
}

ONLY_IN = {
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "torch": {"models", "training", "training.losses"},
    "torchvision": {"models", "training"},
    "facenet_pytorch": {"models"},
    "onnx": {"models"},
    "onnxscript": {"models"},
    "onnxruntime": {"models"},
    "sqlite3": {"gallery.store", "gallery.upkeep"},
    "matplotlib": {"evaluation", "training"},
    "filelock": {"files", "models", "gallery.store"},
    "difflib": {""},
}
"""In which wings a library may be imported, lazily or not."""

TORCH_AT_ONCE = {
    "models.architectures",
    "models.dlib_torch",
    "models.sface_torch",
    "models.torch_export",
    "models.torchvision",
}
"""Where in models/ torch is imported with the module; the rest does so inside functions."""

TALKS = {"__main__", "cli.app", "cli.exit_codes", "cli.notes", "cli.output", "cli.streams"}
"""Who may print, exit and read arguments."""


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


def wing(name):
    """Return the wing of a module: its folder, which is "" for the ground floor."""
    return name if (PACKAGE / Path(*name.split("."))).is_dir() else name.rpartition(".")[0]


def own(name):
    """Yield the modules of facecli that one knows."""
    for imported, _ in imports(FILES[name]):
        if imported.startswith("facecli."):
            yield imported.removeprefix("facecli.")


def test_no_file_stands_outside_a_wing():
    assert {name for name in NAMES if not wing(name)} == (GROUND | {"__main__"}) - {""}
    assert {wing(name) for name in NAMES} - {""} == set(WINGS)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_arrows_go_one_way(name):
    if name == "__main__":
        return
    for other in own(name):
        assert other in NAMES, f"{name} imports {other}, which is no module"
        if wing(name) in ("", wing(other)):
            assert other in GROUND or wing(name), f"{name} of the ground floor must not know {other}"
        else:
            known = WINGS[wing(name)].split()
            assert other in GROUND or wing(other) in known, (
                f"{wing(name)} must not know {wing(other)}: {name} -> {other}"
            )


def test_the_drawing_has_no_circle_of_wings():
    drawn = []
    while len(drawn) < len(WINGS):
        next_ones = [w for w in WINGS if w not in drawn and set(WINGS[w].split()) <= set(drawn)]
        assert next_ones, f"a circle among {set(WINGS) - set(drawn)}"
        drawn += next_ones


def test_no_circle_of_files():
    known = {name: {other for other in own(name) if other in NAMES} for name in NAMES}
    while known:
        leaves = [name for name, others in known.items() if not others & set(known)]
        assert leaves, f"a circle among {sorted(known)}"
        for name in leaves:
            del known[name]


def test_libraries_stay_in_their_wings():
    for name, path in modules():
        for imported, lazy in imports(path):
            library = imported.split(".")[0]
            if library in ONLY_IN:
                assert wing(name) in ONLY_IN[library], f"{name} imports {library}"
            if library in ("torch", "torchvision") and wing(name) == "models" and not lazy:
                assert name in TORCH_AT_ONCE, f"{name} imports {library} with the module"


@pytest.mark.slow
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
        if wing(name) != "cli":
            assert "sys.stdin" not in used, name


def test_what_the_system_says_is_put_into_words_in_one_place():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "strerror":
                assert name == "errors", f"{name} words an OSError by itself"


def test_json_is_read_in_one_place():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "json"
            ):
                assert name == "files.json_text" or node.attr == "dumps", f"{name} reads JSON by itself"
            assert not (isinstance(node, ast.ImportFrom) and node.module == "json"), name


def test_files_are_one_idea_long():
    for name, path in modules():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 370, f"{name} is more than one idea"


def test_no_assertion_on_input_and_no_exception_swallowed():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{name} asserts"
            if isinstance(node, ast.ExceptHandler):
                kinds = ast.dump(node.type) if node.type is not None else "BaseException"
                last_resort = name == "cli.exit_codes" and "'Exception'" in kinds
                assert last_resort or ("'Exception'" not in kinds and "BaseException" not in kinds), name


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


HEAVY = "{'numpy', 'torch', 'onnx', 'onnxruntime', 'PIL', 'facenet_pytorch', 'matplotlib', 'scipy'}"


def test_the_command_line_is_imported_without_anything_heavy():
    assert run(f"import sys, facecli.cli.app; print(sorted({HEAVY} & set(sys.modules)))") == "[]"


@pytest.mark.slow
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
        ["train", "--help"],
        ["db", "--help"],
        ["db", "import", "--help"],
    ):
        assert run(code, *arguments) == "[]", arguments


@pytest.mark.slow
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


def test_calibrating_pairs_needs_no_gallery(cache_dir, people, tmp_path):
    """Nor anything else that keeps templates: a list of pairs is enough."""
    names = sorted(place.name for place in people.iterdir() if place.is_dir() and place.name[0] != ".")
    rows = [f"{a}/1.jpg,{a}/2.jpg\n{a}/1.jpg,{b}/1.jpg" for a, b in zip(names, names[1:], strict=False)]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(["left,right", *rows]))
    code = (
        "import sys\nfrom facecli.__main__ import main\n"
        "sys.argv = ['facecli', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print(sorted(name for name in sys.modules if name.startswith('facecli.gallery')))"
    )
    where = ("--cache", cache_dir, "--home", tmp_path / "home")
    what = ("--pairs", pairs, "--root", people, "--replicates", 100, "--no-install")
    assert run(code, *where, "calibrate", *what) == "[]"
