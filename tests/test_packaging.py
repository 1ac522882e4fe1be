"""What an installation must hold: one version, types, stubs that tell the truth, true examples."""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
from pathlib import Path

import pytest

import cymlp
from cymlp import trace_page

PACKAGE = Path(cymlp.__file__).parent
COMPILED = sorted(
    path.name.split(".")[0] for path in PACKAGE.iterdir() if path.suffix in {".so", ".pyd"}
)


@pytest.fixture(params=COMPILED)
def compiled(request):
    return importlib.import_module(f"cymlp.{request.param}")


def stub_of(module):
    """Return the syntax tree of a compiled module's stub."""
    return ast.parse(PACKAGE.joinpath(module.__name__.split(".")[1] + ".pyi").read_text())


def functions_in(body):
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def parameters_of(arguments):
    named = [*arguments.args, *arguments.kwonlyargs, arguments.kwarg]
    return [argument.arg for argument in named if argument]


def public_names(namespace):
    return {name for name in namespace if not name.startswith("_")}


def defined_in(module):
    """Return the public classes and functions that a compiled module itself defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def test_distribution_has_the_version_of_the_package():
    try:
        version = importlib.metadata.version("cymlp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("cymlp is not installed: it is imported from where it was built")
    assert version == cymlp.__version__


def test_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_page_of_a_trace_is_installed():
    files = {path.name for path in (PACKAGE / "page").iterdir()}
    assert files == {"page.html", "page.css", *trace_page.SCRIPTS}


def test_compiled_modules_are_found():
    assert {"_dense", "_inference", "_kernels", "_network", "_threads"} <= set(COMPILED)


def test_stub_names_what_the_module_defines(compiled):
    body = stub_of(compiled).body
    stubbed = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert stubbed == set(defined_in(compiled))
    for node in body:
        if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):
            assert hasattr(compiled, node.target.id)


def test_stub_has_the_parameters_of_each_function(compiled):
    for name, node in functions_in(stub_of(compiled).body).items():
        parameters = inspect.signature(getattr(compiled, name)).parameters
        stubbed = parameters_of(node.args)
        assert stubbed == list(parameters), f"{compiled.__name__}.{name}"


def test_stub_has_the_members_of_each_class(compiled):
    for node in stub_of(compiled).body:
        if not isinstance(node, ast.ClassDef):
            continue
        kind = getattr(compiled, node.name)
        stubbed = functions_in(node.body)
        assert public_names(stubbed) == public_names(vars(kind)), node.name
        for name, method in stubbed.items():
            member = getattr(kind, name)
            if name.startswith("_") or not callable(member):
                continue
            arguments = parameters_of(method.args)
            assert arguments == list(inspect.signature(member).parameters), f"{node.name}.{name}"


def test_examples_of_compiled_modules(compiled):
    """Pytest collects examples from .py files alone."""
    assert doctest.testmod(compiled, optionflags=doctest.ELLIPSIS).failed == 0
