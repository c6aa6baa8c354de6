"""Who may import whom, by walking every module; and what importing the package costs."""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import fastcnn

PACKAGE = Path(fastcnn.__file__).parent
ANYTHING = ("",)

# Room -> the rooms it may import besides itself. The longest room that a module's name starts with
# is its own.
RULES = {
    "": (),
    "arguments": (),
    "geometry": ("arguments",),
    "memory": (),
    "arrays": ("kernels.cuda.arrays", "kernels.cuda.target.ordering", "memory"),
    "functional": (
        "arguments",
        "arrays",
        "geometry",
        "kernels.packed",
        "kernels.plans",
        "kernels.cuda",
        "memory",
    ),
    "kernels": (),
    "kernels.packed": ("kernels.plans",),
    "kernels.plans": (
        "geometry",
        "kernels.implementation",
        "kernels.precision",
        "kernels.selection",
    ),
    "kernels.selection": ("kernels.implementation", "kernels.portable"),
    "kernels.portable": ("geometry", "kernels.implementation"),
    "kernels.implementation": ("geometry",),
    "kernels.precision": (),
    "kernels.cpu": ("geometry", "memory"),
    "kernels.cuda": ("geometry",),
    "reference": (),
    "layers": ("functional", "reference", "arguments", "geometry"),
    "training": ("files", "layers", "functional", "arguments"),
    "networks": ("layers", "training"),
    "datasets": ("files",),
    "files": (),
    "recipes": ("datasets", "networks", "training"),
    "tuning": (
        "files",
        "functional",
        "geometry",
        "kernels.implementation",
        "kernels.plans",
        "kernels.selection",
    ),
    "verification": ANYTHING,
    "benchmark": ANYTHING,
    "interop": ("functional", "layers", "networks", "training"),
    "demo": ANYTHING,
    "cli": ANYTHING,
    "__main__": ("cli",),
}
# What nothing else may import: the command line, and the demo that belongs to it.
FRONT = ("cli", "demo", "__main__")
NUMPY_ALONE = ("reference",)
# Imported by the rooms named, inside functions only, so that their extra stays optional.
OPTIONAL = {
    "sklearn": ("datasets", "demo", "cli"),
    "skimage": ("datasets", "demo", "cli"),
    "PIL": ("datasets",),
    "matplotlib": ("demo", "cli", "benchmark", "training"),
    "rich": ("demo", "cli", "benchmark", "training"),
    "scipy": ("benchmark", "verification"),
    "torch": ("interop", "benchmark", "verification"),
    "onnx": ("interop", "benchmark", "verification"),
    "onnxruntime": ("benchmark",),
    "jax": ("benchmark",),
    "cuda": ("kernels.cuda.target",),
    "safetensors": ("training",),
}
# Each of these is for one package, and imported by name in a process that is that package's own.
ADAPTERS = tuple(
    f"benchmark.sides.{name}"
    for name in ("onnx_runtime", "pytorch", "pytorch_cuda", "pytorch_network", "scientific", "xla")
)


@dataclass(frozen=True)
class Import:
    """One imported module, and whether that happens when the importer is imported."""

    by: str
    name: str
    line: int
    eager: bool

    def __str__(self):
        return f"fastcnn.{self.by} imports {self.name} in line {self.line}"


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(name):
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imported_names(node, package):
    """Absolute names; `from package import submodule` names the submodule."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = package[: len(package) - node.level + 1] if node.level else []
    source = ".".join([*base, *filter(None, [node.module])])
    names = [f"{source}.{alias.name}" for alias in node.names]
    if source.split(".")[0] != "fastcnn":
        return names
    return [name if exists(name) else source for name in names]


def walk(node, deferred=False):
    """Every node below, and whether it runs only when something is called or never at all."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        later = deferred or typing_only or inside
        yield child, deferred
        yield from walk(child, later)


def read_imports():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = module_name(path)
        package = ["fastcnn", *filter(None, name.split("."))]
        if path.name != "__init__.py":
            package.pop()
        for node, deferred in walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found += [
                    Import(name, imported, node.lineno, not deferred)
                    for imported in imported_names(node, package)
                ]
    return found


IMPORTS = read_imports()


def within(name, room):
    return room == "" or name == room or name.startswith(f"{room}.")


def room_of(name):
    return max((room for room in RULES if within(name, room)), key=len)


def inner(entry):
    """The imported module below fastcnn, or None for one of another package."""
    head, _, rest = entry.name.partition(".")
    return rest if head == "fastcnn" else None


def test_the_walk_sees_what_it_should():
    """Absolute, relative, lazy and type-checking imports that are known to be there."""
    seen = {(entry.by, entry.name, entry.eager) for entry in IMPORTS}
    assert ("functional.conv", "fastcnn.kernels.plans", True) in seen
    assert ("reference", "fastcnn.reference.conv", True) in seen
    assert ("layers.backends", "fastcnn.reference", False) in seen
    assert ("", "fastcnn.layers", False) in seen
    assert room_of("kernels.cpu.pool") == "kernels.cpu"
    assert room_of("") == ""


def test_rooms():
    """Every import is allowed; a module of a room without a rule is in none of them."""
    for entry in IMPORTS:
        target = inner(entry)
        if target is None or (entry.by == "" and not entry.eager):
            continue
        own = room_of(entry.by)
        assert own or entry.by == "", f"fastcnn.{entry.by} is in no room of the import rules"
        if own and within(target, own):
            continue
        allowed = RULES[own]
        permitted = allowed == ANYTHING or any(within(target, room) for room in allowed)
        assert permitted, str(entry)


def test_the_command_line_is_imported_by_nothing_else():
    for entry in IMPORTS:
        target = inner(entry)
        if target and any(within(target, room) for room in FRONT):
            assert any(within(entry.by, room) for room in FRONT), str(entry)


def test_the_reference_shares_no_code_with_what_it_judges():
    allowed = {"numpy", "fastcnn.reference", *sys.stdlib_module_names}
    for entry in IMPORTS:
        if any(within(entry.by, room) for room in NUMPY_ALONE):
            assert any(within(entry.name, name) for name in allowed), str(entry)


def test_layers_import_the_reference_only_when_asked_for_it():
    for entry in IMPORTS:
        if within(entry.by, "layers") and within(entry.name, "fastcnn.reference"):
            assert not entry.eager, str(entry)


def test_other_packages():
    """NumPy anywhere; Numba in kernels; llvmlite for inline code; extras lazily, in their rooms."""
    for entry in IMPORTS:
        package = entry.name.split(".")[0]
        if package in {"fastcnn", "numpy", *sys.stdlib_module_names}:
            continue
        if package == "numba":
            in_kernels = within(entry.by, "kernels.cpu") or within(entry.by, "kernels.cuda")
            assert in_kernels or room_of(entry.by) in ("benchmark", "cli"), str(entry)
            if within(entry.name, "numba.cuda"):
                assert within(entry.by, "kernels.cuda.target"), str(entry)
        elif package == "llvmlite":
            inline = ("kernels.cpu.calls", "kernels.cpu.simd", "kernels.cuda.ptx")
            assert entry.by in inline, str(entry)
        else:
            assert package in OPTIONAL, f"{entry}: a package that no rule knows"
            assert any(within(entry.by, room) for room in OPTIONAL[package]), str(entry)
            assert not entry.eager or entry.by in ADAPTERS, f"{entry}, at import"


def test_nothing_imports_tests_or_benchmarks_of_the_repository():
    for entry in IMPORTS:
        assert entry.name.split(".")[0] not in ("tests", "bench"), str(entry)


def test_names_are_imported_by_string_in_few_places():
    """The rules above cannot see such imports: they are for rooms that may import anything, for
    the lazy names of the package, for the choice of a kernel and for recording kernels."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if RULES[room_of(module_name(path))] == ANYTHING:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).split(".")[-1]
                if called in ("import_module", "__import__", "exec", "eval"):
                    found.add(module_name(path))
    assert found == {"", "kernels.implementation", "kernels.plans", "kernels.portable"}


def run(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_fastcnn_loads_nothing():
    loaded = run("import sys, json, fastcnn\nprint(json.dumps(sorted(sys.modules)))")
    assert "fastcnn" in loaded
    heavy = {"numpy", "numba", "llvmlite", *OPTIONAL}
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_importing_every_module_compiles_nothing_and_loads_no_extra():
    names = sorted({f"fastcnn.{m}".rstrip(".") for m in map(module_name, PACKAGE.rglob("*.py"))})
    program = (
        "import json, sys\n"
        "from importlib import import_module\n"
        "from numba.core import event\n"
        "numbas = set(sys.modules)\n"  # SciPy among them, where it is installed
        "with event.install_recorder('numba:compile') as recorder:\n"
        f"    for name in {names!r}:\n"
        f"        if not name.endswith('__main__') and name[8:] not in {ADAPTERS!r}:\n"
        "            import_module(name)\n"
        "print(json.dumps([sorted(set(sys.modules) - numbas), len(recorder.buffer)]))\n"
    )
    loaded, compilations = run(program)
    assert compilations == 0
    # Numba loads SciPy by itself where it is installed
    assert not (set(OPTIONAL) - {"scipy"}) & {name.split(".")[0] for name in loaded}
    assert "numba.cuda.cudadrv.driver" not in loaded


@pytest.mark.parametrize("name", fastcnn.__all__)
def test_public_names_exist(name):
    assert getattr(fastcnn, name) is not None
    assert name in dir(fastcnn)


def test_other_names_do_not():
    with pytest.raises(AttributeError, match="module 'fastcnn' has no attribute 'conv3d'"):
        _ = fastcnn.conv3d
