"""Rows, config and end of real runs; resumed runs; a run that is being written."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wandb_runs import start_logging

from metta_jobs.metrics.base import RunInfo
from metta_jobs.metrics.wandb_framing import find_logs
from metta_jobs.metrics.wandb_log import WandbFolder, WandbLog
from metta_jobs.metrics.wandb_records import CONFIG, DECODE_ERRORS, apply, find_message, history_row


def test_every_row_of_a_real_run(run_folder: Path) -> None:
    rows = list(WandbFolder(run_folder).rows())
    assert [row["_step"] for row in rows] == list(range(333))  # 300 + 30 evaluations + 3 odd ones
    rewards = [row for row in rows if "overview/reward" in row]
    assert [row["metric/agent_step"] for row in rewards] == [100 * (i + 1) for i in range(300)]
    assert [row["overview/sps"] for row in rewards] == [1000 + i for i in range(300)]
    assert rewards[150]["overview/reward"] == pytest.approx(math.tanh(0.5))
    odd = [row["odd"] for row in rows if "odd" in row]
    assert math.isnan(odd[0])
    assert odd[1:] == [math.inf, -3]
    assert next(row["nested.inner"] for row in rows if "nested.inner" in row) == 5
    assert next(row["eval/text"] for row in rows if "eval/text" in row) == "no number"


def test_only_the_wanted_metrics_are_decoded(run_folder: Path) -> None:
    rows = list(WandbFolder(run_folder).rows(["overview/sps", "nested.inner"]))
    assert {key for row in rows for key in row} == {"overview/sps", "_step", "_fragment", "nested.inner"}
    assert sum("overview/sps" in row for row in rows) == 300


def test_info_tells_identity_config_summary_and_end(run_folder: Path) -> None:
    info = WandbFolder(run_folder).info()
    assert (info.run_id, info.project, info.exit_code) == ("toy-run-7", "toy", 0)
    assert info.config == {"trainer": {"total_timesteps": 30000, "lr": 3e-4}, "name": "toy"}
    assert info.summary["overview/sps"] == 1299
    assert info.summary["nested"] == {"inner": 5}


def test_starts_of_one_run_are_joined_with_their_steps_moved(resumed_folder: Path) -> None:
    assert len(find_logs(resumed_folder)) == 2
    rows = list(WandbFolder(resumed_folder).rows())
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    assert [row["_fragment"] for row in rows] == [0] * 47 + [1] * 44


def test_a_folder_without_logs_has_no_rows(tmp_path: Path) -> None:
    assert list(WandbFolder(tmp_path).rows()) == []
    assert WandbFolder(tmp_path).info() == RunInfo()


def test_a_killed_run_is_read_while_it_is_written_and_after(tmp_path: Path) -> None:
    process = start_logging(tmp_path, "--rows", "100000", "--pause", "0.002")
    seen: list[int] = []
    try:
        deadline = time.monotonic() + 60
        log: WandbLog | None = None
        polls_with_news = 0
        while polls_with_news < 3:
            assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "output.log").read_text()
            if log is None:
                log = next((WandbLog(path, ["overview/reward"]) for path in find_logs(tmp_path)), None)
                continue
            news = [row["_step"] for row in log.poll()]
            polls_with_news += bool(news)
            seen += news
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert log is not None
    seen += [row["_step"] for row in log.poll()]
    assert seen == list(range(len(seen)))
    assert len(seen) > 50
    assert log.info.exit_code is None
    assert log.tail.damaged == log.undecodable == 0


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_a_record_that_is_not_as_expected_raises_only_what_readers_catch(record: bytes) -> None:
    for decode in (
        lambda: find_message(record),
        lambda: history_row(record, 0, len(record), None),
        lambda: apply(RunInfo(), record, CONFIG, 0, len(record)),
    ):
        try:
            decode()
        except DECODE_ERRORS:
            continue


def _field(number: int, payload: bytes) -> bytes:
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])) + bytes([len(payload)]) + payload


def test_typed_values_of_the_protocol_are_understood() -> None:
    """wandb 0.31 writes JSON only, but its protocol has typed values too."""
    items = b"".join(
        _field(1, _field(2, name) + value)
        for name, value in [
            (b"flag", b"\x20\x01"),
            (b"int", b"\x28\x05"),  # zigzag of -3
            (b"double", b"\x31" + bytes.fromhex("000000000000f83f")),
            (b"text", _field(7, b"hi")),
            (b"json", _field(8, b'{"a": [1]}')),
            (b"none", b"\x18\x01"),
        ]
    )
    record = b"\x08\x07" + _field(2, items + _field(2, b"\x08\x2a"))
    kind, start, end = find_message(record)
    assert kind == 2
    assert history_row(record, start, end, None) == {
        "_step": 42,
        "flag": True,
        "int": -3,
        "double": 1.5,
        "text": "hi",
        "json": {"a": [1]},
        "none": None,
    }
