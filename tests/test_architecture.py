"""Imports run downwards only: reads `import`, `cimport` and `#include` lines of the source tree."""

import ast
import re

import pytest
from conftest import SOURCE_TREE

pytestmark = pytest.mark.skipif(SOURCE_TREE is None, reason="these tests stand in no source tree")

#: The package from bottom to top. A module imports from its own layer or from those below.
LAYERS = [
    {
        "_cores",
        "_frozen",
        "_kernels",
        "_notation",
        "_random",
        "_reference",
        "_version",
        "exceptions",
    },
    {"_arrays", "_formulas", "_reference_layers", "_render"},
    {"_validate"},
    {"_threads"},
    {"_dense"},
    {"_batch", "_ops"},
    {"_program"},
    {"_inference", "_steps"},
    {"_passes"},
    {"_updates"},
    {"_network"},
    {"schedules"},
    {"activations", "constraints", "initializers", "losses", "metrics", "optimizers"}
    | {"regularizers"},
    {"layers"},
    {"_lbfgs", "_lower", "_symbols"},
    {"_working_pass"},
    {"_plot_style"},
    {"_config", "_network_plot", "_scores", "data", "datasets", "history", "plots", "progress"},
    {"_anatomy", "_batches", "_working", "callbacks", "inspection", "trace_page"},
    {"trace"},
    {"_explain"},
    {"_fit"},
    {"model"},
    {"_differences", "_findings", "_probe", "many", "setting"},
    {"_measures", "gradient_check"},
    {"_findings_of_data", "_findings_of_training"},
    {"diagnosis"},
    {"_sklearn"},
    {"_estimator_checks", "_estimator_docs", "_estimator_fit", "_estimator_network"},
    {"_estimator_convert"},
    {"_estimator_base"},
    {"estimators"},
    {"__init__"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}

#: The C sources likewise, by folder or file.
C_LEVEL = {
    "kernels.h": 0,
    "philox.h": 0,
    "shuffle.h": 1,
    "denormals.h": 0,
    "threads.h": 0,
    "vectorcall.h": 0,
    "simd": 1,
    "kernels": 2,
    "isa": 3,
    "dispatch.c": 3,
}

#: Packages that not everybody has, and the modules that may import them at module level.
HEAVY = {
    "sklearn": {"_sklearn"},
    "matplotlib": {"_network_plot", "plots"},
    "tqdm": set(),
    "scipy": set(),
    "torch": set(),
}

#: Data, no arrays, no maths. Initializers are not among them: they draw the numbers themselves.
SPECS = (
    "activations",
    "constraints",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
)


def python_imports(source, package="cymlp"):
    """Yield (module, is at module level) for every import in Python source, absolute names."""

    def visit(node, at_module_level):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_module_level
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            for alias in node.names:
                # `from cymlp import layers` imports a module, or a name from the package's face.
                is_module = base == package and alias.name in LEVEL
                yield f"{base}.{alias.name}" if is_module else base, at_module_level
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        for child in ast.iter_child_nodes(node):
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(child, at_module_level and not inside)

    return list(visit(ast.parse(source), True))


CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.+)|c?import\s+([\w., ]+))")


def cython_imports(source, package="cymlp"):
    """Yield the module of every import and cimport in Cython source."""
    names = []
    for line in source.splitlines():
        match = CYTHON_IMPORT.match(line.partition("#")[0])
        if not match:
            continue
        base, imported, modules = match.groups()
        if modules:
            names += [name.split()[0] for name in modules.split(",") if name.strip()]
            continue
        relative = base.startswith(".")
        base = f"{package}.{base.lstrip('.')}".rstrip(".") if relative else base
        for name in re.findall(r"\w+", imported) or [""]:
            names.append(f"{base}.{name}" if base == package and name in LEVEL else base)
    return names


def own_module(name):
    """Return which module of the package an absolute name means; None for any other package."""
    head, *tail = name.split(".")
    if head != "cymlp":
        return None
    return tail[0] if tail else "__init__"


def package_graph():
    """Return {module: set of the package's modules that it imports, anywhere in its code}."""
    graph = {}
    for path in sorted((SOURCE_TREE / "cymlp").glob("*.py*")):
        module, suffix = path.name.split(".", 1)
        if suffix not in ("py", "pyx", "pxd"):
            continue
        source = path.read_text(encoding="utf-8")
        if suffix == "py":
            names = [name for name, _ in python_imports(source)]
        else:
            names = cython_imports(source)
        used = {own_module(name) for name in names} - {None, module}
        graph.setdefault(module, set()).update(used)
    return graph


def circle(graph):
    """Return a path that ends where it starts, or None."""
    done = set()

    def search(node, path):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for below in sorted(graph.get(node, ())):
            found = search(below, [*path, node])
            if found:
                return found
        done.add(node)
        return None

    return next(filter(None, (search(node, []) for node in sorted(graph))), None)


def includes(path):
    """Return the file names of all #include lines, quoted or in angle brackets."""
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.M)


def c_sources():
    return sorted(p for p in (SOURCE_TREE / "src").rglob("*") if p.suffix in (".c", ".h"))


def c_level(path):
    return C_LEVEL[path.relative_to(SOURCE_TREE / "src").parts[0]]


def test_every_module_has_its_layer():
    modules = set(package_graph())
    assert modules <= set(LEVEL), "a new module: give it a place in LAYERS"
    assert set(LEVEL) <= modules, "LAYERS names a module that is not there"


def test_imports_run_downwards():
    upwards = [
        f"{module} imports {below}"
        for module, used in package_graph().items()
        for below in used
        if LEVEL[below] > LEVEL[module]
    ]
    assert not upwards, upwards


def test_imports_form_no_circle():
    assert circle(package_graph()) is None


def test_the_tools_of_these_tests_see_what_they_look_for():
    """An empty graph would pass every test here."""
    graph = package_graph()
    assert "_kernels" in graph["_dense"] | graph["_network"]
    assert {"_lower", "history"} <= graph["model"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    source = "import numpy as np\nfrom .layers import Dense\ndef f():\n    from . import model\n"
    expected = [("numpy", True), ("cymlp.layers", True), ("cymlp.model", False)]
    assert python_imports(source) == expected
    source = "cimport cython\nfrom ._kernels cimport x, y\nfrom cymlp cimport _dense  # why\n"
    assert set(cython_imports(source)) == {"cython", "cymlp._kernels", "cymlp._dense"}


def test_specs_are_data():
    """No arrays: a spec module does not even import NumPy."""
    for module in SPECS:
        path = SOURCE_TREE / "cymlp" / f"{module}.py"
        used = {name.split(".")[0] for name, _ in python_imports(path.read_text(encoding="utf-8"))}
        assert "numpy" not in used, module


def test_heavy_packages_stay_in_their_modules():
    for path in sorted((SOURCE_TREE / "cymlp").glob("*.py")):
        for name, at_module_level in python_imports(path.read_text(encoding="utf-8")):
            package = name.split(".")[0]
            if package in HEAVY and at_module_level:
                assert path.stem in HEAVY[package], f"{path.name} imports {name} at module level"


def test_nothing_imports_the_reference():
    """The twin is what tests trust: if the product used it, they would compare it with itself."""
    twins = {"_reference", "_reference_layers"}
    users = [module for module, used in package_graph().items() if used & twins]
    assert users == ["_reference_layers"]


def test_includes_run_downwards():
    for path in c_sources():
        for name in includes(path):
            included = (path.parent / name).resolve()
            if not included.is_file():
                included = SOURCE_TREE / "src" / name
            if included.is_file():
                assert c_level(included) <= c_level(path), f"{path.name} includes {name}"


def test_includes_form_no_circle():
    graph = {
        str(path): {
            str(target)
            for name in includes(path)
            if (target := (path.parent / name).resolve()).is_file()
        }
        for path in c_sources()
    }
    assert any(graph.values())
    assert circle(graph) is None


def test_kernels_know_nothing_of_python_or_threads():
    """Two headers are not theirs: what the Cython modules see of OpenMP and of CPython's calls."""
    paths = [path for path in c_sources() if path.name not in {"threads.h", "vectorcall.h"}]
    assert paths
    for path in paths:
        for name in includes(path):
            assert not re.match(r"Python\.h|numpy/|omp\.h|pthread\.h|stdlib\.h|stdio\.h", name), (
                f"{path.name} includes {name}"
            )


def test_intrinsics_stand_in_simd_only():
    """`denormals.h` is the exception: it sets the CPU's control register, not data."""
    users = {
        path.relative_to(SOURCE_TREE / "src").parts[0]
        for path in c_sources()
        if re.search(r"\b_mm\d*_\w+\s*\(|\bv\w+q_f\d\d\s*\(", path.read_text(encoding="utf-8"))
    }
    assert "simd" in users
    assert users <= {"simd", "denormals.h"}


def test_extensions_reach_c_through_its_border():
    """Cython includes headers at the top of src/ only; `_kernels.pxd` is who knows kernels.h."""
    externs = {}
    for path in sorted((SOURCE_TREE / "cymlp").glob("*.p[yx][xd]")):
        text = path.read_text(encoding="utf-8")
        externs[path.name] = set(re.findall(r'cdef extern from ["<]([^">]+)[">]', text))
    assert "kernels.h" in externs["_kernels.pxd"]
    for name, headers in externs.items():
        assert not any("/" in header and "numpy" not in header for header in headers), name
        assert "kernels.h" not in headers or name == "_kernels.pxd", name
