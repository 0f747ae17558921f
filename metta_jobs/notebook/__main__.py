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
from metta_jobs.notebook.make import Wish, job_ids_of, make, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when the notebook was written and every cell ran, 1 when a cell failed, 2 when nothing was written."""
    parser = argparse.ArgumentParser(prog="python -m metta_jobs.notebook", description=__doc__)
    parser.add_argument("group", nargs="?", help="name of the group")
    parser.add_argument("--job-ids", nargs="+", default=[], metavar="ID", help="jobs instead of a group")
    parser.add_argument("--sections", action="append", default=[], help="setup,state,analysis,... (with commas)")
    parser.add_argument("--format", default="jupyter", help="jupyter or marimo")
    parser.add_argument("--output", type=Path, help="where to write it (default: notebooks/GROUP.ipynb in the project)")
    parser.add_argument("--html", action="store_true", help="write it as a page too, to notebooks/log/")
    parser.add_argument("--open", action="store_true", dest="open_it", help="open it afterwards")
    parser.add_argument("--state-dir", type=Path, help="folder of the jobs' state (default: job_state/ in the project)")
    parser.add_argument("--no-execute", action="store_true", help="write it without running its cells")
    options = parser.parse_args(arguments)
    try:
        wish = Wish(
            group=options.group,
            job_ids=job_ids_of(options.job_ids),
            output=options.output,
            sections=tuple(options.sections),
            format=options.format,
            execute=not options.no_execute,
            html=options.html,
            open_it=options.open_it,
        )
        with JobManager(options.state_dir) as manager:
            written, page = make(wish, manager)
        sys.stdout.write(f"{written}\n" + (f"{page}\n" if page else ""))
        if folder := os.environ.get("METTA_JOB_DIR"):  # we are a job: the monitor shows what it left
            (Path(folder) / "links.json").write_text(json.dumps({"notebook": str(written)}))
        if options.open_it:
            show(written, page)
    except MettaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
