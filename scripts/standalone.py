"""Build the standalone program, which needs no Python: an archive in dist/, with an SBOM and licence notices beside it.

    python scripts/standalone.py [WHEEL]

PyInstaller makes it for the system that it runs on, of the base dependencies. It is a folder and not a single file,
which would unpack 385 MB at every start: an estimated 1.6 s of CPU time.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "standalone"
OUT = ROOT / "dist"
SYSTEMS = {"Darwin": "macos"}
# PyInstaller points LD_LIBRARY_PATH at its own libraries, which the browser of `serve --open` must not load.
_START = """
import os

for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
    before = os.environ.pop(f"{name}_ORIG", None)
    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before

from clipsearch.__main__ import main

main()
"""
_NOTICE = re.compile(r"licen[cs]e|copying|copyright|notice", re.IGNORECASE)


def main() -> None:
    wheel = Path(sys.argv[1]) if sys.argv[1:] else ROOT
    shutil.rmtree(BUILD, ignore_errors=True)
    OUT.mkdir(exist_ok=True)
    # The environment is described before PyInstaller joins it.
    python = environment("base", wheel.resolve())
    tools = environment("tools", "cyclonedx-bom>=7")
    packages = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    found = sorted(distributions(path=[str(packages)]), key=lambda one: one.name.lower())
    (version,) = (one.version for one in found if one.name == "clipsearch")
    system = SYSTEMS.get(platform.system(), platform.system().lower())
    name = OUT / f"clipsearch-{version}-{system}-{platform.machine().lower()}"
    run(tools, "-m", "cyclonedx_py", "environment", python, "--output-file", f"{name}.cdx.json")
    licences = Path(f"{name}-licences.txt")
    licences.write_text(notices(found), encoding="utf-8")

    install(python, "pyinstaller>=6.20")
    program = build(python)
    shutil.copy(licences, program.parent / "LICENCES.txt")
    try_out(program, python)
    kind = "zip" if sys.platform == "win32" else "gztar"
    archive = Path(shutil.make_archive(str(name), kind, program.parent.parent, program.parent.name))
    folder_size = sum(file.lstat().st_size for file in program.parent.rglob("*") if file.is_file())
    print(f"{archive}: {archive.stat().st_size / 1e6:.0f} MB, unpacked {folder_size / 1e6:.0f} MB")


def environment(name: str, *requirements: str | Path) -> Path:
    """The Python of a new environment that has these packages, what they depend on, and nothing else."""
    venv.create(BUILD / name, symlinks=sys.platform != "win32")
    python = BUILD / name / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    install(python, *requirements)
    return python


def install(python: Path, *requirements: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements)


def build(python: Path) -> Path:
    """Run PyInstaller; returns the program."""
    start = BUILD / "start.py"
    start.write_text(_START)
    options = ["--name=clipsearch", f"--distpath={BUILD / 'dist'}", f"--workpath={BUILD}", f"--specpath={BUILD}"]
    # Commands are imported by name, and files lie beside the modules that read them.
    parts = ["--collect-submodules=clipsearch", "--collect-data=clipsearch", "--copy-metadata=clipsearch"]
    # -I: not the checkout, which may be the current folder or on PYTHONPATH.
    run(python, "-I", "-m", "PyInstaller", "--log-level=WARN", *options, *parts, "--exclude-module=tkinter", start)
    return BUILD / "dist" / "clipsearch" / ("clipsearch.exe" if sys.platform == "win32" else "clipsearch")


def notices(found: list[Distribution]) -> str:
    """The licences of Python and of all packages, with those of the libraries that their wheels carry."""
    places = [Path(os.__file__).parent, Path(sys.base_prefix)]
    python = next(text for place in places for text in place.glob("LICENSE.txt")).read_text("utf-8")
    texts = [
        "The standalone clipsearch contains Python and the packages below, each under its own licence.\n"
        "pillow_heif contains libx265, which is under the GPL, version 2 or later.\n",
        f"Python {platform.python_version()}\n\n{python}",
    ]
    for package in found:
        files = [file for file in package.files or () if _NOTICE.search(file.name) and file.suffix[:3] != ".py"]
        fields = package.metadata.json
        licence = str(fields.get("license_expression") or fields.get("license") or "").partition("\n")[0]
        own = dict.fromkeys(Path(str(file.locate())).read_text("utf-8", "replace") for file in files)  # some lie twice
        texts.append("\n\n".join([f"{package.name} {package.version}", licence, *own]))
    return f"\n{'=' * 80}\n".join(texts)


def try_out(program: Path, python: Path) -> None:
    """Index photos and find one, as somebody would who has nothing else. Fails if the program does."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        draw = "from PIL import Image; Image.new('RGB', (300, 200), '{0}').save('{0}.jpg')"
        for colour in ("red", "blue"):
            subprocess.run([python, "-I", "-c", draw.format(colour)], cwd=photos, check=True)
        index = f"--index={Path(folder) / 'index'}"
        run(program, "index", photos, "--model=mini", index)
        assert "red.jpg" in output(program, "query", "something red", "-k1", index)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()
