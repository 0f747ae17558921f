"""`python -m metta_jobs.notebook GROUP`: write and execute a group's notebook now. The group's last job runs this."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from metta_jobs.errors import MettaError
from metta_jobs.manager import JobManager
from metta_jobs.notebook.write import default_path, write_notebook


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when the notebook was written and every cell ran, 1 when a cell failed, 2 when nothing was written."""
    parser = argparse.ArgumentParser(prog="python -m metta_jobs.notebook", description=__doc__)
    parser.add_argument("group", help="name of the group")
    parser.add_argument("--output", type=Path, help="where to write it (default: notebooks/GROUP.ipynb in the project)")
    parser.add_argument("--state-dir", type=Path, help="folder of the jobs' state (default: job_state/ in the project)")
    parser.add_argument("--no-execute", action="store_true", help="write it without running its cells")
    options = parser.parse_args(arguments)
    try:
        with JobManager(options.state_dir) as manager:
            group = manager.group(options.group)
            path = options.output or default_path(group.name, manager.project_dir)
            state_dir = manager.state_dir
        written = write_notebook(group, path, state_dir, execute=not options.no_execute)
    except MettaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{written}\n")
    if folder := os.environ.get("METTA_JOB_DIR"):  # we are a job: the monitor shows what it left
        (Path(folder) / "links.json").write_text(json.dumps({"notebook": str(written)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
