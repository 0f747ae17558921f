"""Runs the cells of a notebook in a kernel of this very interpreter, and leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metta_jobs.notebook.extra import require
from metta_jobs.paths import STATE_DIR_VARIABLE

if TYPE_CHECKING:
    from nbformat import NotebookNode

_START_TIMEOUT_S = 120


def execute(notebook: NotebookNode, folder: Path, state_dir: Path, cell_timeout_s: float = 600) -> str | None:
    """Execute `notebook` in place, with `folder` as the working directory and the jobs' state in `state_dir`.

    Stops at the first cell that fails, or takes longer than `cell_timeout_s` seconds; the error is then among that
    cell's outputs, and a sentence about it is returned, None when all went well. SIGTERM ends the kernel first and
    this process then, with code 143.
    """
    require("nbclient", "nbformat", "ipykernel")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory(prefix="metta-") as private:
        return asyncio.run(_execute(notebook, folder, _environment(state_dir, private), Path(private), cell_timeout_s))


def _environment(state_dir: Path, private: str) -> dict[str, str]:
    return {
        **os.environ,
        STATE_DIR_VARIABLE: str(state_dir),
        "IPYTHONDIR": private,  # no history, and no start-up files of one user's
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "WANDB_SILENT": "true",
    }


async def _execute(
    notebook: NotebookNode, folder: Path, environment: dict[str, str], private: Path, cell_timeout_s: float
) -> str | None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    manager = _kernel_manager(private)
    client = NotebookClient(
        notebook, km=manager, timeout=cell_timeout_s, startup_timeout=_START_TIMEOUT_S, coalesce_streams=True
    )
    cell: NotebookNode | None = None
    with _ending_on_sigterm() as terminated:
        try:
            await client.async_start_new_kernel(cwd=str(folder), env=environment)
            await client.async_start_new_kernel_client()
            for index, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, index)
        except CellExecutionError as error:
            return f"the cell {_name(cell)} failed: {error.ename}: {error.evalue}"
        except CellTimeoutError:
            return _record(cell, "CellTimeoutError", f"it took longer than {cell_timeout_s:g} s")
        except (DeadKernelError, RuntimeError) as error:
            if terminated:
                raise SystemExit(128 + signal.SIGTERM) from error
            return _record(cell, type(error).__name__, str(error) or "the kernel died")
        except asyncio.CancelledError:
            if terminated:
                raise SystemExit(128 + signal.SIGTERM) from None
            raise
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            await manager.shutdown_kernel(now=True)
    return None


def _kernel_manager(private: Path) -> Any:
    """A manager whose kernel runs this interpreter, whatever kernels are installed, on sockets nobody else reaches."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=ThisInterpreter(),
        transport="ipc",
        connection_file=str(private / "kernel.json"),
    )


@contextmanager
def _ending_on_sigterm() -> Iterator[list[int]]:
    """Turn SIGTERM into a cancellation of the current task, and note it in the list that is yielded."""
    terminated: list[int] = []
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield terminated
        return

    def end() -> None:
        if not terminated:
            terminated.append(signal.SIGTERM)
            task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        yield terminated
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _name(cell: NotebookNode | None) -> str:
    return repr(cell.id) if cell is not None else "'setup'"


def _record(cell: NotebookNode | None, name: str, message: str) -> str:
    """Put an error that the kernel could not report itself among the cell's outputs; return a sentence about it."""
    from nbformat.v4 import new_output

    if cell is None:
        return f"the kernel did not start: {message}"
    cell.outputs.append(new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"]))
    return f"the cell {_name(cell)} failed: {name}: {message}"
