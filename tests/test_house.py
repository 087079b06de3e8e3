"""The rooms: their order, what each may import, and that docs/house.md tells the truth."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clarke

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clarke"
FILES = sorted(p for p in PACKAGE.rglob("*.py"))


def rooms():
    """The rooms in the printed order, __init__ left out."""
    listing = (ROOT / "docs" / "house.md").read_text().split("```")[1]
    return [m.group(1).rstrip("/") for m in re.finditer(r"^  (\w+(?:\.py|/))", listing, re.MULTILINE)][1:]


def room_of(path):
    inside = path.relative_to(PACKAGE)
    return inside.parts[0]


def imports(path):
    """(module, is it ours) of every import in the file, inside functions too."""
    package = ("clarke", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}"


def our_rooms(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "clarke" and len(parts) > 1:
            for candidate in (f"{parts[1]}.py", parts[1]):
                if (PACKAGE / candidate).exists():
                    yield candidate


def test_the_list_in_the_docs_is_what_is_there():
    assert {room_of(p) for p in FILES} - {"__init__.py"} == set(rooms())


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) != "__init__.py"], ids=lambda p: p.name)
def test_a_room_imports_only_rooms_above_it(path):
    order = rooms()
    here = order.index(room_of(path))
    for imported in our_rooms(path):
        assert order.index(imported) <= here, f"{path.name} imports {imported}, which is below it"
        assert imported != room_of(path) or imported in ("claims", "importers")


OWNERS = {
    "autograd": {
        "primitives.py",
        "selections.py",
        "lowering.py",
        "graph.py",
        "passes.py",
        "composite.py",
        "equations.py",
        "audit.py",
    }
    | {"activations.py", "arithmetic.py", "convolution.py", "normalization.py", "attention.py", "layers.py"}
    | {"claims", "classics.py"},
    "cvxpy": {"projection.py"},
    "networkx": {"network.py"},
    "matplotlib": {"plots.py", "curves.py"},
    "torch": {"audit.py", "importers"},
    "jax": {"audit.py"},
    "sklearn": {"estimators.py", "importers"},
}


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_its_rooms(library):
    users = {room_of(p) for p in FILES if any(name.split(".")[0] == library for name in imports(p))}
    assert users <= OWNERS[library]


def test_only_the_command_line_imports_the_importers():
    users = {room_of(p) for p in FILES if "importers" in set(our_rooms(p))}
    assert users <= {"__main__.py", "importers"}


def test_no_room_shares_its_name_with_a_public_function():
    assert not {r.removesuffix(".py") for r in rooms()} & set(clarke.__all__)


def test_type_checkers_see_the_same_doors():
    """__init__.pyi imports each public name from the room that __init__.py opens for it."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    seen = {alias.name: n.module for n in stub.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert seen == clarke._ROOM
    assert sorted(seen) == clarke.__all__


def test_importing_the_package_opens_no_room():
    code = "import sys, clarke; print(*sorted(m for m in sys.modules if m.startswith(('clarke.', 'numpy', 'scipy'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_what_is_no_room_is_no_attribute():
    assert clarke.layers.squared_error
    assert "min_norm_element" in dir(clarke)
    with pytest.raises(AttributeError, match="module 'clarke' has no attribute 'leyers'"):
        clarke.leyers  # noqa: B018


def test_every_public_name_is_there_documented_and_sorted():
    assert clarke.__all__ == sorted(clarke.__all__)
    for name in clarke.__all__:
        assert getattr(clarke, name).__doc__, name


def public_functions(space):
    """(name, function, is its first parameter the instance) of a room's own functions, and of its classes' methods."""
    for name, value in vars(space).items():
        if name.startswith("_") or getattr(value, "__module__", None) != space.__name__:
            continue
        if inspect.isclass(value):
            for inner, member in vars(value).items():
                bound = not isinstance(member, staticmethod)
                member = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
                member = getattr(member, "func", member)  # of a cached_property
                own = inspect.isfunction(member) and member.__qualname__ == f"{name}.{inner}"
                if own and written_in(member, space) and is_public(inner):
                    yield f"{name}.{inner}", member, bound
        elif inspect.isfunction(inspect.unwrap(value)):
            yield name, inspect.unwrap(value), False


def is_public(name):
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def written_in(function, space):
    """Not what dataclass or NamedTuple wrote: its code is in the file of the room."""
    return function.__code__.co_filename == space.__file__


def without_annotation(function, bound):
    """The parameters, and "return", that the signature leaves without a type."""
    signature = inspect.signature(function)
    found = [p.name for p in list(signature.parameters.values())[bound:] if p.annotation is p.empty]
    return found + ["return"] * (signature.return_annotation is signature.empty)


MODULES = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES]


@pytest.mark.parametrize("module", [m.removesuffix(".__init__") for m in MODULES])
def test_public_functions_and_methods_say_their_types(module):
    lacking = {
        name: missing
        for name, function, bound in public_functions(importlib.import_module(module))
        if (missing := without_annotation(function, bound))
    }
    assert not lacking


def test_a_missing_annotation_is_named():
    def some(x, y: int, *rest, key=1, **options: int):
        return x

    def every(self, x: int) -> int:
        return x

    assert without_annotation(some, False) == ["x", "rest", "key", "return"]
    assert without_annotation(every, True) == []
    assert without_annotation(every, False) == ["self"]


def test_the_library_prints_nothing_outside_the_command_line():
    for path in FILES:
        if room_of(path) == "__main__.py":
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path.name


def test_the_readme_tells_the_truth():
    """Its python blocks run, and what their comments say came out."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space = {}
    for block in blocks:
        exec(block.replace("print(clarke.check_ad(loss, w))", "said = str(clarke.check_ad(loss, w))"), space)
    assert f"# {space['said']}" in text
    assert space["autograd"].hessian(space["loss"])(space["w"]).tolist() == [[2, -1], [-1, 0]]
    found = space["found"]
    assert found.matrices.tolist() == [[[0, 0], [0, 0]], [[8, -2], [-2, 0]]]
    assert found.patterns == ("-", "+")
    assert found.complete
    assert f"'{found.reason}'" in text
    assert found.c11 is False
    H = space["H"]
    assert H["W1", "h2"].shape == (64, 1024)
    assert H.dense().shape == (403, 403)
    assert abs(H.gauss_newton["W1", "W2"] + H.tensor["W1", "W2"] - H["W1", "W2"]).max() < 1e-15
