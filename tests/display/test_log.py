"""Reading, cleaning and searching logs."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metta_jobs.display.errorlines import error_lines
from metta_jobs.display.logtail import TAIL_BYTES, read_tail
from metta_jobs.display.sanitize import clean_lines, one_line

PYTHON = """\
wandb: Tracking run with wandb version 0.31
Traceback (most recent call last):
  File "train.py", line 12, in <module>
    main()
  File "train.py", line 8, in main
    raise RuntimeError("no reward")
RuntimeError: no reward
wandb:
wandb: Run summary: error 3
wandb: 🚀 View run at https://wandb.ai/x
"""


def test_a_huge_log_is_read_only_at_its_end(tmp_path):
    path = tmp_path / "output.log"
    with path.open("wb") as file:
        file.truncate(20 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n\n")
    assert read_tail(path)[-2:] == ["last but one", "last"]


def test_the_fragment_at_the_cut_is_left_out(tmp_path):
    path = tmp_path / "output.log"
    path.write_text("a" * TAIL_BYTES + "\nwhole\n")
    assert read_tail(path) == ["whole"]


def test_only_the_last_lines_are_given_where_a_number_is_asked_for(tmp_path):
    path = tmp_path / "output.log"
    path.write_text("one\ntwo\nthree\n")
    assert [read_tail(path, lines) for lines in (0, 2, 9)] == [[], ["two", "three"], ["one", "two", "three"]]


def test_one_endless_line_is_better_than_nothing(tmp_path):
    path = tmp_path / "output.log"
    path.write_text("".join(f"\r{n} %" for n in range(10_000)))
    assert read_tail(path) == ["9999 %"]


def test_what_cannot_be_read_has_no_lines(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert read_tail(tmp_path / "missing") == []
    assert read_tail(tmp_path) == []
    assert read_tail(tmp_path / "fifo") == []


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    path = tmp_path / "output.log"
    path.write_bytes(b"ok \xff\xfe\x00\x07 caf\xc3\xa9\n")
    assert read_tail(path) == ["ok �� café"]


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        ("\x1b[31mred\x1b[0m", ["red"]),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", ["textlink"]),
        (" 10%|#  |\r 20%|## |\r", [" 20%|## |"]),
        ("loading\x08\x08\x08\x08\x08\x08\x08done", ["done"]),
        ("a\tb", ["a   b"]),
        ("\x1b[2J\x1b[H\n\n  \n", []),
        ("one\x0btwo\u2028three", ["one", "two", "three"]),
        ("left\u202eright\u200b", ["leftright"]),
        ("cut \x1b[3", ["cut 3"]),
    ],
)
def test_cleaning(raw, lines):
    assert clean_lines(raw) == lines


@settings(deadline=None)
@given(st.text())
def test_nothing_that_moves_the_cursor_survives(text):
    for line in [*clean_lines(text), one_line(text)]:
        assert all(character.isprintable() or character.isspace() for character in line), line
        assert not any(character in line for character in "\x1b\r\n\x08\x9b\u202e")


def test_the_exception_comes_first_then_where_it_was_raised():
    assert error_lines(clean_lines(PYTHON)) == ["RuntimeError: no reward", 'File "train.py", line 8, in main']
    assert error_lines(clean_lines(PYTHON), 1) == ["RuntimeError: no reward"]


def test_a_prefix_of_the_launcher_is_seen_through():
    ranked = [f"[rank0]: {line}" for line in PYTHON.splitlines()[1:7]]
    assert error_lines(ranked, 1) == ["RuntimeError: no reward"]


def test_the_last_of_chained_exceptions_counts():
    log = ["Traceback (most recent call last):", '  File "a", line 1', "KeyError: 'x'"]
    log += ["During handling of the above exception, another exception occurred:"]
    log += ["Traceback (most recent call last):", '  File "b", line 2', "OSError: y"]
    assert error_lines(log) == ["OSError: y", 'File "b", line 2']


def test_a_validation_error_keeps_its_fields():
    log = ["Traceback (most recent call last):", '  File "a", line 1']
    log += ["ValidationError: 1 validation error for Arena", "agents", "  Input should be a valid integer"]
    assert error_lines(log)[:3] == log[2:]


def test_an_exception_that_was_survived_gives_way_to_a_later_error():
    log = [*PYTHON.splitlines(), *[f"step {n}" for n in range(40)], "slurmstepd: error: out of memory"]
    assert error_lines(log, 1) == ["slurmstepd: error: out of memory"]


@pytest.mark.parametrize(
    ("log", "first"),
    [
        (["starting", "bash: foo: command not found", "bye"], "bash: foo: command not found"),
        (
            ["usage: train", "train.py: error: unrecognized arguments: --x"],
            "train.py: error: unrecognized arguments: --x",
        ),
        (["╭─ Error ────╮", "│ No such option: --x │", "╰────────────╯"], "No such option: --x"),
        (["step 1", "Segmentation fault (core dumped)"], "Segmentation fault (core dumped)"),
        (["value_error 0.2", "the end"], "value_error 0.2"),
    ],
)
def test_errors_without_a_traceback(log, first):
    assert error_lines(log)[0] == first


def test_a_log_of_chatter_only_has_no_error():
    assert error_lines(["wandb: error fetching", "------"]) == []


def test_what_was_printed_before_a_traceback_and_came_in_the_middle_of_it_is_not_its_error() -> None:
    log = ["Traceback (most recent call last):", '  File "toy.py", line 18, in run', "    raise ValueError(what)"]
    log += ["step 0", "step 1", "ValueError: the policy diverged", "srun: error: vm: task 0: Exited with exit code 1"]
    assert error_lines(log) == ["ValueError: the policy diverged", 'File "toy.py", line 18, in run']
    # An exception whose name does not tell that it is one is believed at its place.
    assert error_lines([*log[:3], "toy.Diverged: at 3", "step 1", "and"])[0] == "toy.Diverged: at 3"
