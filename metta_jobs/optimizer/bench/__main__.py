"""`python -m metta_jobs.optimizer.bench`: compare methods on test problems, print a table, write a JSON file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from metta_jobs.errors import MettaError
from metta_jobs.optimizer.bench.report import table
from metta_jobs.optimizer.bench.runner import chosen, run_all

METHODS = "protein,random,sobol,optuna:TPESampler,optuna:CmaEsSampler,optuna:GPSampler"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; 2 where they cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m metta_jobs.optimizer.bench", description=__doc__)
    parser.add_argument("--problems", default="tuned", help="names by comma, or tuned, held-out, all")
    parser.add_argument("--methods", default=METHODS, help="methods by comma")
    parser.add_argument("--seeds", type=int, default=5, help="so many seeds, from 0")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--output", type=Path, help="a JSON file for the rows")
    parser.add_argument("--settings", default="{}", help="JSON: other settings than the defaults, for our own methods")
    parser.add_argument("--table", type=Path, nargs="+", help="run nothing: print the tables of these JSON files")
    given = parser.parse_args(argv)
    try:
        if given.table:
            rows = [row for path in given.table for row in json.loads(path.read_text())]
        else:
            names, methods = chosen(given.problems.split(",")), given.methods.split(",")
            rows = run_all(names, methods, range(given.seeds), given.jobs, json.loads(given.settings))
    except MettaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if given.output:
        given.output.write_text(json.dumps(rows, indent=1))
    figures = ["regret", *(["area"] if any("area" in row for row in rows) else []), "seconds"]
    sys.stdout.write("\n\n".join(table(rows, figure) for figure in figures) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
