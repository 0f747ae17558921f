"""`metta job list` and `metta job show` say the same with and without the command-line library."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, tzinfo
from pathlib import Path
from unittest import mock

import pytest

from metta_jobs.cli import looking, main
from metta_jobs.cli.context import STATE
from metta_jobs.cli.quick import quick
from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.job import JobConfig
from metta_jobs.policy import GroupConfig
from metta_jobs.store import edit, read, wishes
from metta_jobs.testing import FakeExecutor, add, make_house, states

Said = tuple[object, str, str]
"""Exit code, stdout, stderr."""

ORDINARY = "from metta_jobs.cli.app import run; run()"
BOTH = {"quick": "from metta_jobs.cli import main; main()", "ordinary": ORDINARY}


class Frozen(datetime):
    """The same moment whenever it is asked for: the two do not run at once."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Frozen:
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose queue has something of everything, without a daemon; beside it a folder `other` with another."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '0'\n")
    house = make_house(folder / "job_state", cpus=4)

    def job(name: str, *after: str, cpus: float = 1) -> JobConfig:
        return JobConfig(name=name, command=("train", name), depends_on=after, cpus=cpus)

    jobs = [job("good"), job("bad"), job("killed"), job("live"), job("lr=0.1", "bad"), job("next", "live")]
    add(house, *jobs, group="g")
    settle(house)
    executor = house.executors["local"]
    assert isinstance(executor, FakeExecutor)
    executor.end((1, 1), 0)
    executor.end((2, 1), 3)
    with house.store.write() as connection:
        wishes.wish_kill(connection, house.clock.now(), [3])
    settle(house)
    assert states(house, *range(1, 7)) == ["succeeded", "failed", "killed", "running", "skipped", "pending"]
    add(house, job("big", cpus=4), group="held", options=GroupConfig(priority=5, max_parallel=2))
    with house.store.write() as connection:
        held = read.group_id(connection, "held")
        assert held is not None
        edit.pause_group(connection, house.clock.now(), held, paused=True)
    for number in range(looking.SHOWN_GROUPS + 3):
        add(house, job("one"), group=f"many-{number}")
    with house.store.write() as connection:
        wishes.wish_kill(connection, house.clock.now(), list(range(8, 8 + looking.SHOWN_GROUPS + 3)))
    settle(house)
    log = house.state_dir.attempt(2, 1) / "output.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\nValueError: \x1b[31mboom ✓\x1b[0m\n")
    house.store.close()
    add(make_house(folder / "other"), job("elsewhere"), group="another")
    return folder


def settle(house: House) -> None:
    for _ in range(6):
        tick(house)


def say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], *, quickly: bool
) -> Said:
    """Run the program here, with or without the quick way, and return how it ended and what it wrote."""
    with monkeypatch.context() as patched, mock.patch.dict(os.environ):
        patched.setattr(sys, "argv", ["metta", *arguments])
        patched.setattr(STATE, "state_dir", None)
        patched.setattr(STATE, "debug", False)
        patched.setattr(looking, "datetime", Frozen)
        patched.setattr(read, "datetime", Frozen)
        if not quickly:
            patched.setattr("metta_jobs.cli.quick.quick", lambda _: None)
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code, *capsys.readouterr()


def check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], *, taken: bool
) -> Said:
    """Compare both ways, and see that the quick one was taken or not; return what they say."""
    assert (quick(arguments) is not None) is taken
    quickly = say(monkeypatch, capsys, arguments, quickly=True)
    assert quickly == say(monkeypatch, capsys, arguments, quickly=False)
    assert quickly[1] or quickly[2]
    return quickly


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("job list", 0),
        ("job list --json", 0),
        ("job list --all", 0),
        ("job list --json --all --json", 0),
        ("job list g", 0),
        ("job list g --json", 0),
        ("job list --json g", 0),
        ("job list held", 0),
        ("job list many-1", 0),
        ("job list g --state failed", 0),
        ("job list --state PENDING --json g", 0),
        ("job list g --state failed --state running", 0),
        ("job list g --state lost", 0),
        ("job list --state skipped", 0),
        ("job list --state timed_out", 0),
        ("job list --state --json", 2),
        ("job list g --state runing", 2),
        ("job list gg", 2),
        ("job list 4", 2),
        ("job list g/bad", 2),
        *((f"job show {job}", 0) for job in range(1, 8)),
        *((f"job show {job} --json", 0) for job in range(1, 8)),
        ("job show --json g/lr=0.1", 0),
        ("job show held/big", 0),
        ("job show held", 0),
        ("job show g", 2),
        ("job show 0", 2),
        ("job show 999", 2),
        ("job show 99999999999999999999999", 2),
        ("job show 007", 0),
        ("job show ²", 2),
        ("job show g/goood", 2),
        ("job show nobody/good", 2),
        ("job show g/", 2),
        ("--state-dir other job list", 0),
        ("--state-dir other job show another/elsewhere", 0),
        ("--state-dir other job show g/good", 2),
        ("--state-dir ./nowhere job list", 0),
        ("--state-dir ./nowhere job list --json", 0),
        ("--state-dir ./nowhere job show 1", 2),
        ("--state-dir pyproject.toml job list", 2),
        ("--state-dir --json job list", 0),
    ],
)
def test_plain_forms_are_answered_quickly_and_the_same(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, code: int
) -> None:
    monkeypatch.chdir(project)
    assert check(monkeypatch, capsys, arguments.split(), taken=True)[0] == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("job", 2),
        ("job list --help", 0),
        ("job show -h", 2),
        ("job show --help 1", 0),
        ("job show", 2),
        ("job show --json", 2),
        ("job show 1 2", 2),
        ("job list g held", 2),
        ("job list --jso", 2),
        ("job list --a", 2),
        ("job list --state", 2),
        ("job list --state=failed g", 0),
        ("job list --json=1", 2),
        ("job list -j", 2),
        ("job list --", 0),
        ("job list -- g", 0),
        ("job list -- --json", 2),
        ("job list -", 2),
        ("job show -- 1", 0),
        ("job show --all 1", 2),
        ("job show --state failed 1", 2),
        ("job show -1", 2),
        ("job --json list", 2),
        ("job lst", 2),
        ("list", 2),
        ("--state-dir", 2),
        ("--state-dir other", 2),
        ("--state-dir=other job list", 0),
        ("--state-dir nowhere --state-dir other job list", 0),
        ("--debug job show 999", 2),
        ("--version job list", 0),
        ("job list --state-dir other", 2),
    ],
)
def test_all_other_forms_go_the_ordinary_way(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, code: int
) -> None:
    monkeypatch.chdir(project)
    assert check(monkeypatch, capsys, arguments.split(), taken=False)[0] == code


@pytest.mark.parametrize("arguments", [["job", "list", ""], ["job", "show", ""], ["job", "list", "--state", ""]])
@pytest.mark.parametrize("before", [[], ["--state-dir", ""]])
def test_empty_words_mean_the_same(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: list[str],
    arguments: list[str],
) -> None:
    monkeypatch.chdir(project)
    with monkeypatch.context() as patched:
        patched.chdir(project / "other")  # a state folder, whose project is the one above
        check(monkeypatch, capsys, [*before, *arguments], taken=True)
        check(monkeypatch, capsys, [*before, "job", "list", "--json"], taken=True)


@pytest.mark.parametrize(
    ("value", "seen"), [("other", "another"), ("", "held"), ("~/nothing", "no jobs yet"), ("nowhere", "no jobs yet")]
)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_environment_names_the_state_folder(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: str,
    seen: str,
    as_json: list[str],
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("METTA_JOB_STATE", value)
    _, out, _ = check(monkeypatch, capsys, ["job", "list", *as_json], taken=True)
    assert seen in out or ("no jobs" in seen and '"groups": []' in out)
    check(monkeypatch, capsys, ["job", "show", "1", *as_json], taken=True)
    _, out, _ = check(monkeypatch, capsys, ["--state-dir", "other", "job", "list", *as_json], taken=True)
    assert "another" in out  # what was typed counts more


def test_the_shell_s_completion_goes_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quick(["job", "list"]) is not None
    monkeypatch.setenv("_METTA_COMPLETE", "complete_bash")
    assert quick(["job", "list"]) is None


def started(how: str, arguments: list[str], cwd: Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", BOTH[how], *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=stdout, stderr=subprocess.PIPE)


@pytest.mark.parametrize("arguments", [["job", "list", "g"], ["job", "show", "2"], ["job", "show", "nobody/x"]])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_as_programs_of_their_own_they_write_the_same_bytes(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], encoding: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    ends = {}
    for how in BOTH:
        program = started(how, arguments, project)
        out, err = program.communicate(timeout=60)
        assert b"Traceback" not in err
        ends[how] = (program.returncode, [line for line in out.splitlines() if b"running" not in line.lower()], err)
    assert ends["quick"] == ends["ordinary"]


def test_a_reader_that_has_gone_away_is_no_error(project: Path) -> None:
    ends = {}
    for how in BOTH:
        ours, theirs = os.pipe()
        os.close(ours)
        program = started(how, ["job", "list", "--json", "--all"], project, stdout=theirs)
        os.close(theirs)
        ends[how] = (program.communicate(timeout=60)[1], program.returncode)
    assert ends["quick"] == ends["ordinary"] == (b"", 1)


@pytest.mark.parametrize(("command", "act"), [("list", "list_jobs"), ("show", "show_job")])
def test_ctrl_c_ends_both_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, act: str
) -> None:
    def interrupted(*_: object) -> None:
        print("half a table")
        raise KeyboardInterrupt

    monkeypatch.setattr(looking, act, interrupted)
    code, out, _ = check(monkeypatch, capsys, ["job", command, "1"], taken=True)
    assert (code, out) == (130, "half a table\n")
