"""How errors become sentences and exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from metta_jobs.errors import MettaError


def guarded(act: Callable[[], object], *, debug: bool) -> None:
    """Do it, and end with an exit code: 2 for what the user can mend, 1 where a run failed, 70 for a defect of ours."""
    if sys.stdout is None or sys.stderr is None:  # closed by the caller
        quiet = Path(os.devnull).open("w")  # noqa: SIM115  (for as long as we run)
        sys.stdout, sys.stderr = sys.stdout or quiet, sys.stderr or quiet
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "✓" shall not end the program
    code = 0
    try:
        act()
        sys.stdout.flush()
    except MettaError as error:
        code = _complain(error, str(error), error.exit_code, debug)
    except BrokenPipeError:
        # Whoever read our output has had enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except KeyboardInterrupt:
        code = 130  # as the command-line library has it
    except Exception as error:  # noqa: BLE001  (the last resort: a sentence instead of a traceback)
        if (said := _refused_value(error)) is not None:
            code = _complain(error, said, 2, debug)
        else:
            code = _complain(
                error,
                f"metta-jobs met a defect of its own: {type(error).__name__}: {error}. Nothing stored is lost. Run it "
                "again as `metta --debug …` and report what it shows.",
                70,
                debug,
            )
    sys.exit(code)


def _refused_value(error: Exception) -> str | None:
    """What pydantic has refused, in a sentence; None when it is another error. It is slow to import, so who only lists
    jobs never loads it."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(error, pydantic.ValidationError):
        return None
    from metta_jobs.refusal import explain

    return explain(error)


def _complain(error: BaseException, message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    return code
