"""The script on the node, run by real shells, and what is read out of its log."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from metta_jobs.executors.sky.outcome import Outcome, mark, read_outcome, script, unpack_files, without_marks

SHELLS = (("sh",), ("bash",), ("bash", "-i"))
ODD = ("a b", "$x", "'q'", '"', "", "x\n\n", "*", "-n", "ü", "`id`", "\\", "=")


def run(
    shell: tuple[str, ...], home: Path, *command: str, limit_s: float | None = None, **more: str
) -> tuple[int, str, Outcome | None]:
    text = script(command, "abc", limit_s=limit_s, grace_s=0, cwd=more.pop("cwd", None))
    path = home / "script"
    path.write_text(text)
    done = subprocess.run(
        [*shell, str(path)],
        capture_output=True,
        text=True,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **more},
        timeout=60,
        check=False,
        start_new_session=True,
    )
    return done.returncode, done.stdout, read_outcome(done.stdout, "abc")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_arguments_arrive_as_they_are(tmp_path: Path, shell: tuple[str, ...]) -> None:
    code, log, outcome = run(shell, tmp_path, "printf", "[%s]", *ODD)
    assert (code, outcome) == (0, Outcome(0, pytest.approx(0, abs=5), False))
    assert without_marks(log, "abc") == "".join(f"[{word}]" for word in ODD) + "\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("command", "code"),
    [(("sh", "-c", "exit 5"), 5), (("no-such-command",), 127), (("sh", "-c", "kill -KILL $$"), 137), (("true",), 0)],
)
def test_the_exit_code_is_told(tmp_path: Path, shell: tuple[str, ...], command: tuple[str, ...], code: int) -> None:
    said, _, outcome = run(shell, tmp_path, *command)
    assert outcome is not None
    assert (said, outcome.exit_code) == (code, code)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_output_and_errors_come_in_the_order_in_which_they_were_said(tmp_path: Path, shell: tuple[str, ...]) -> None:
    _, log, _ = run(shell, tmp_path, "sh", "-c", "echo 1; echo 2 >&2; echo 3")
    assert without_marks(log, "abc") == "1\n2\n3\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_time_limit_holds_though_nobody_looks(tmp_path: Path, shell: tuple[str, ...]) -> None:
    code, _, outcome = run(shell, tmp_path, "sh", "-c", "trap '' TERM; sleep 300", limit_s=1)
    assert outcome is not None
    assert (code, outcome.exit_code, outcome.limit) == (137, 137, True)


def test_the_run_folder_comes_home_with_the_log(tmp_path: Path) -> None:
    make = "cd $METTA_JOB_DIR; mkdir d; head -c 30000 /dev/urandom > d/big; cp d/big ../copy; echo x > small; echo hi"
    code, log, _ = run(("bash", "-i"), tmp_path, "sh", "-c", make)
    home = tmp_path / "home"
    home.mkdir()
    assert (code, unpack_files(log, "abc", home)) == (0, 3)
    assert (home / "d" / "big").read_bytes() == next(tmp_path.rglob("copy")).read_bytes()
    assert (home / "small").read_text() == "x\n"
    assert without_marks(log, "abc") == "hi\n"


def test_what_is_too_large_stays_there(tmp_path: Path) -> None:
    make = "head -c 6000000 /dev/urandom > $METTA_JOB_DIR/big; echo hi"
    code, log, outcome = run(("sh",), tmp_path, "sh", "-c", make)
    assert (code, outcome is not None, without_marks(log, "abc")) == (0, True, "hi\n")
    assert unpack_files(log, "abc", tmp_path / "home") == 0


def test_the_folder_below_the_code(tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    _, log, _ = run(("sh",), tmp_path, "pwd", cwd="sub dir")
    assert log.splitlines()[0] == str(tmp_path / "sub dir")


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", None),
        (f"{mark('abc')} outcome {{bad", None),
        (f'{mark("other")} outcome {{"exit_code": 3, "started": 1, "ended": 2, "rank": 0}}', None),
        (f'{mark("abc")} outcome {{"exit_code": "x", "started": 1, "ended": 2, "rank": 0}}', None),
    ],
)
def test_what_is_no_outcome(log: str, expected: None) -> None:
    assert read_outcome(log, "abc") is expected


def test_of_several_nodes_the_first_that_failed_and_of_several_runs_the_last() -> None:
    def line(rank: int, code: int, ran: int) -> str:
        record = f'{{"exit_code": {code}, "started": 10, "ended": {10 + ran}, "rank": {rank}, "limit": false}}'
        return f"(worker1, rank={rank}) {mark('abc')} outcome {record}\n"

    log = line(0, 143, 5) + line(0, 0, 7) + line(1, 3, 9)
    assert read_outcome(log, "abc") == Outcome(3, 9.0, False)


def test_files_that_would_leave_the_folder_do_not(tmp_path: Path) -> None:
    import base64
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("../evil")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    log = f"{mark('abc')} files {base64.b64encode(packed.getvalue()).decode()}\n"
    assert unpack_files(log, "abc", tmp_path / "home") == 0
    assert not (tmp_path / "evil").exists()
