"""The house keeps its shape: small files, documented words. The contracts on imports are checked by `make check`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from metta_jobs.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("metta_jobs", "recipes", "tests", "benchmarks")
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))


def command_names() -> list[str]:
    """Every command as it is typed: "metta job list"."""
    found = []
    for group, prefix in ((app, "metta"), *((g.typer_instance, f"metta {g.name}") for g in app.registered_groups)):
        assert isinstance(group, typer.Typer)
        for command in group.registered_commands:
            assert command.callback is not None
            found.append(f"{prefix} {command.name or command.callback.__name__}")
    return sorted(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in SOURCES if "metta_jobs" in p.parts], ids=lambda p: p.stem)
def test_no_room_is_a_shelf(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if "metta_jobs" in p.parts], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_module_class_and_public_function_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if not tree.body:
        return
    assert ast.get_docstring(tree), "the module"
    # documented at the protocol
    kept_promises = {"FakeExecutor", "FakeReadings", "MetricsThread", "SystemClock", "ManualClock", "UtcTime"}
    kept_promises |= {
        "Range",
        "Bins",
        "Uniform",
        "IntUniform",
        "UniformPow2",
        "LogNormal",
        "LogitNormal",
        "Categorical",
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name not in kept_promises:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    simple = any(isinstance(d, ast.Name) and d.id == "property" for d in method.decorator_list)
                    assert simple or ast.get_docstring(method), f"{node.name}.{method.name}"


@pytest.mark.parametrize("command", command_names())
def test_every_command_is_in_the_readme_and_shows_an_example(command: str) -> None:
    readme = (ROOT / "README.md").read_text()
    assert command in readme
    done = subprocess.run(
        [sys.executable, "-m", "metta_jobs", *command.split()[1:], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert command in " ".join(done.stdout.split())


def test_the_readme_s_two_commands_are_there_to_the_letter() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "pip install uv && uv run metta run arena.experiment remote=false" in readme
    assert "pip install uv && make test" in readme


def test_nothing_inside_imports_testing() -> None:
    for path in (ROOT / "metta_jobs").rglob("*.py"):
        assert path.stem == "testing" or "metta_jobs.testing" not in path.read_text(), path
