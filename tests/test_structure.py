"""Rules about the structure of the code: layers, import cycles, owners of libraries, docstrings."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

from clipsearch import extras

PACKAGE = Path(__file__).parent.parent / "clipsearch"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each folder may import from itself and from those on the lines above; folders on one line know nothing of each other.
LAYERS = [
    {"errors", "arrays", "paths", "extras", "threads"},
    {"images"},
    {"models", "store"},
    {"indexing", "search", "cluster"},
    {"index", "output"},
    {"cli", "web"},
]

# Who may import a library: a module, or all of a folder.
OWNERS = {
    "torch": {"models/open_clip_encoder", "models/coca", "models/transformers_vlm"},
    "transformers": {"models/transformers_vlm"},
    "onnxruntime": {"models/graph_encoders", "models/onnx_graph"},
    "open_clip": {"models/open_clip_encoder", "models/pretrained", "models/coca"},
    "numkong": {"store/segments"},
    "faiss": {"store/segments"},
    "pymilvus": {"cluster/milvus", "cluster/collection_rows"},
    "milvus_lite": {"cluster/milvus"},
    "ray": {"cluster/ray"},
    "rawpy": {"images/raw"},
    "typer": {"cli"},
    "rich": {"cli", "output"},
    "textual_image": {"output/terminal"},
    "jinja2": {"output/html_file", "web/app"},
    "starlette": {"web"},
    "uvicorn": {"web/server"},
    "sqlite3": {"store", "models/cache"},
    "pathspec": {"images/patterns"},
    "tokenizers": {"models/hf_tokenizer"},
    "watchfiles": {"indexing/watch"},
    "filelock": {"store/lock", "store/json_file", "output/manifest"},
}


def room_of(path: Path) -> str:
    """The folder of a module in the package; for the modules at its top, their name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_point_one_way() -> None:
    for path in FILES:
        room = room_of(path)
        own = {name.split(".")[1] for name in imports_of(path) if name.startswith("clipsearch.")}
        if name_of(path) in ("cli/serve", "cli/mcp"):  # commands whose output is what the page's room says
            own -= {"web"}
        if room not in ("__init__", "__main__"):
            (level,) = (n for n, layer in enumerate(LAYERS) if room in layer)
            assert own <= {room, "__version__"}.union(*LAYERS[:level], LAYERS[0]), name_of(path)
            if room in ("cli", "web"):  # they ask an Index, and show what it answers through output
                assert not own & {"images", "models", "store"}, name_of(path)


def test_only_the_registry_leads_to_the_cluster() -> None:
    users = {name_of(path) for path in FILES if any("cluster" in name.split(".")[1:2] for name in imports_of(path))}
    assert {user.partition("/")[0] for user in users} == {"cluster"}
    for name in extras._CLUSTER:
        assert callable(extras.cluster(name))


def test_each_library_has_one_owner() -> None:
    for library, owners in OWNERS.items():
        users = [path for path in FILES if any(name.split(".")[0] == library for name in imports_of(path))]
        found = {owner for owner in owners for path in users if owner in (name_of(path), room_of(path))}
        assert found == owners, library
        assert all({name_of(path), room_of(path)} & owners for path in users), library


def test_no_module_is_in_an_import_cycle() -> None:
    """Counts imports inside functions and for types too: hiding a cycle from Python does not make it easier to read."""
    modules = {"clipsearch." + name_of(path).replace("/", ".").removesuffix(".__init__"): path for path in FILES}
    imports = {
        module: {known for name in imports_of(path) for known in (name, name.rpartition(".")[0]) if known in modules}
        - {module, "clipsearch"}
        for module, path in modules.items()
    }
    while free := {module for module, imported in imports.items() if not imported & imports.keys()}:
        imports = {module: imported for module, imported in imports.items() if module not in free}
    assert not imports


def test_nothing_is_pickled() -> None:
    """torch's checkpoints are unpickled, without the classes that could run code."""
    for path in (path for path in FILES if name_of(path) != "models/checkpoint"):
        assert not any(name.split(".")[0] in ("pickle", "shelve", "joblib") for name in imports_of(path))


def test_the_library_never_prints() -> None:
    for path in FILES:
        if room_of(path) != "cli":
            called = {
                node.func.id
                for node in ast.walk(tree_of(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not called & {"print", "exit", "input"}, path.name


def test_what_is_public_is_documented() -> None:
    for path in FILES:
        tree = tree_of(path)
        assert ast.get_docstring(tree), path.name
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_importing_the_package_imports_nothing_large() -> None:
    code = "import sys, clipsearch; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "open_clip", "numkong", "numpy", "rich", "PIL", "starlette", "uvicorn"} & set(loaded)


def test_the_command_line_starts_without_numpy() -> None:
    """It sets the number of NumPy's threads first, and prints help and errors without it."""
    code = "import sys, clipsearch.cli.main; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "PIL", "sqlite3", "torch"} & set(loaded)
