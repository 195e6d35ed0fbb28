"""The rules that keep the project in shape."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "clipsearch"
# Each module may import the ones before it.
ORDER = [
    "errors",
    "paths",
    "cache",
    "models",
    "scan",
    "decode",
    "tokenize",
    "towers",
    "convnet",
    "preprocess",
    "batch",
    "encode",
    "filters",
    "store",
    "search",
    "embedding",
    "confidence",
    "duplicates",
    "query",
    "concepts",
    "label",
    "copies",
    "evaluation",
    "decoder",
    "pipeline",
    "indexing",
    "render",
    "thumbnail",
    "sheet",
    "collect",
    "fetch",
    "program",
    "cli_index",
    "cli_query",
    "cli",
    "__init__",
    "__main__",
]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "clipsearch"
                else {node.module}
            )
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_imports_point_one_way(path: Path) -> None:
    allowed = ORDER[: ORDER.index(path.stem)]
    own = {name.split(".")[1] for name in imports_of(path) if name.startswith("clipsearch.")}
    assert own <= set(allowed)


@pytest.mark.parametrize(
    ("library", "owner"),
    [
        ("torch", {"batch", "encode"}),
        ("open_clip", {"encode"}),
        ("faiss", {"search"}),
        ("typer", {"program", "cli_index", "cli_query"}),
        ("rich", {"cli_index", "render"}),
        ("textual_image", {"render"}),
        ("sqlite3", {"store", "cache"}),
    ],
)
def test_each_library_has_one_owner(library: str, owner: set[str]) -> None:
    users = {
        path.stem for path in PACKAGE.glob("*.py") if any(name.split(".")[0] == library for name in imports_of(path))
    }
    assert users == owner


def test_nothing_is_pickled() -> None:
    assert not any("pickle" in imports_of(path) for path in PACKAGE.glob("*.py"))


def test_the_library_never_prints() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem not in ("program", "cli_index", "cli_query"):
            called = {
                node.func.id
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not called & {"print", "exit", "input"}, path.name


def test_what_is_public_is_documented() -> None:
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path.name
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_importing_the_package_imports_nothing_large() -> None:
    code = "import sys, clipsearch; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "open_clip", "faiss", "numpy", "rich", "PIL"} & set(loaded)
