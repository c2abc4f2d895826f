"""The load program, built when its source is newer."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LOAD = ROOT / "build/bench/load"


def load_program():
    """By hand and not by CMake: a bench of HAProxy alone needs no configured build."""
    sources = sorted((ROOT / "bench/load").glob("*.cpp"))
    newest = max(file.stat().st_mtime for file in (ROOT / "bench/load").iterdir())
    if LOAD.exists() and LOAD.stat().st_mtime > newest:
        return LOAD
    print("building bench/load", file=sys.stderr)
    LOAD.parent.mkdir(parents=True, exist_ok=True)
    unfinished = LOAD.with_suffix(f".{os.getpid()}")  # an interrupted build must not look like a new one
    subprocess.run([os.environ.get("CXX", "g++"), "-std=c++23", "-O2", f"-I{ROOT}", "-Wall", "-Wextra",
                    "-Wpedantic", "-Wconversion", "-Wshadow", "-Wold-style-cast", "-Werror",
                    *sources, "-o", unfinished], check=True)
    unfinished.rename(LOAD)
    return LOAD
