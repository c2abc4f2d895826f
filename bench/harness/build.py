"""The programs of the bench, built when a source is newer."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILT = ROOT / "build/bench"
STRICT = ["-O2", f"-I{ROOT}", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
CXX = [os.environ.get("CXX", "g++"), "-std=c++23", "-Wold-style-cast", *STRICT]
CC = [os.environ.get("CC", "gcc"), *STRICT]


def built(name, compiler, sources, watched, libraries=()):
    """By hand and not by CMake: a bench of HAProxy alone needs no configured build."""
    program = BUILT / name
    newest = max(file.stat().st_mtime for file in watched)
    if program.exists() and program.stat().st_mtime > newest:
        return program
    print(f"building {program.relative_to(ROOT)}", file=sys.stderr)
    BUILT.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")  # an interrupted build must not look like a new one
    subprocess.run([*compiler, *sources, "-o", unfinished, *libraries], check=True)
    unfinished.rename(program)
    return program


def load_program():
    folder = ROOT / "bench/load"
    return built("load", CXX, sorted(folder.glob("*.cpp")), list(folder.iterdir()))


def flood_programs():
    folder = ROOT / "bench/flood_load"
    syns, dropper = folder / "syns.cpp", folder / "dropper.c"
    return {"syns": built("syns", CXX, [syns], [syns]),
            "dropper": built("dropper", CC, [dropper], [dropper], ["-lnetfilter_queue", "-lmnl"])}
