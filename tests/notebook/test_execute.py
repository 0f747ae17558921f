"""Kernels: of this interpreter, ended in every case, with their errors told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from metta_jobs.notebook.execute import execute


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    return new_notebook(
        cells=[new_markdown_cell("# T"), *(new_code_cell(s, id=f"c{i}") for i, s in enumerate(sources))]
    )


def wait_until_gone(pid: int, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def test_cells_run_in_this_interpreter_in_the_notebooks_folder_and_nothing_remains(tmp_path: Path) -> None:
    notebook = notebook_of(
        "import os, subprocess, sys; print(sys.executable); print(os.getcwd()); print(os.environ['METTA_JOB_STATE'])",
        "child = subprocess.Popen(['sleep', '600']); print(os.getpid(), child.pid)",
        "6 * 7",
    )
    assert execute(notebook, tmp_path, tmp_path / "state") is None
    lines = notebook.cells[1].outputs[0].text.splitlines()
    assert lines == [sys.executable, str(tmp_path), str(tmp_path / "state")]
    assert notebook.cells[3].outputs[0].data["text/plain"] == "42"
    for pid in notebook.cells[2].outputs[0].text.split():
        wait_until_gone(int(pid))
    assert list(tmp_path.iterdir()) == []


def test_the_first_error_is_recorded_and_told_and_the_rest_is_not_run(tmp_path: Path) -> None:
    notebook = notebook_of("print('before'); 1 / 0", "print('after')")
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="old")]
    said = execute(notebook, tmp_path, tmp_path)
    assert said == "the cell 'c0' failed: ZeroDivisionError: division by zero"
    assert [output.output_type for output in notebook.cells[1].outputs] == ["stream", "error"]
    assert notebook.cells[2].outputs == []


def test_a_cell_has_a_deadline(tmp_path: Path) -> None:
    notebook = notebook_of("import os, time; print(os.getpid(), flush=True)", "time.sleep(600)")
    said = execute(notebook, tmp_path, tmp_path, cell_timeout_s=1)
    assert said == "the cell 'c1' failed: CellTimeoutError: it took longer than 1 s"
    assert notebook.cells[2].outputs[-1].ename == "CellTimeoutError"
    wait_until_gone(int(notebook.cells[1].outputs[0].text))


def test_a_kernel_that_dies_is_told(tmp_path: Path) -> None:
    notebook = notebook_of("import os; os._exit(7)")
    said = execute(notebook, tmp_path, tmp_path)
    assert said is not None and said.startswith("the cell 'c0' failed: DeadKernelError")
    assert notebook.cells[1].outputs[-1].output_type == "error"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_this_process_is_the_end_of_the_kernel(tmp_path: Path, number: signal.Signals) -> None:
    program = f"""
from pathlib import Path
from nbformat.v4 import new_code_cell, new_notebook
from metta_jobs.notebook.execute import execute
source = "import os, time; open('pid', 'w').write(str(os.getpid())); os.rename('pid', 'kernel'); time.sleep(600)"
execute(new_notebook(cells=[new_code_cell(source)]), Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "kernel").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, number)
        assert process.wait(timeout=20) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    wait_until_gone(int((tmp_path / "kernel").read_text()))
