"""A remote job's log on its way to the terminal."""

from __future__ import annotations

import io

import pytest

from metta_jobs.cli.remote_log import Unmarked
from metta_jobs.executors.sky.outcome import mark

M = mark("0123").encode()
PRINTED = b"one\n\ntwo\n"
WHOLE = PRINTED + b"\n" + M + b" files AAAA\n" + M + b" files BBBB\n\n" + M + b' outcome {"exit_code": 0}\n'


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_evidence_is_left_out_however_the_bytes_come(step: int) -> None:
    out = io.BytesIO()
    unmarked = Unmarked(out, "0123")
    for start in range(0, len(WHOLE), step):
        unmarked.write(WHOLE[start : start + step])
    unmarked.flush()
    assert out.getvalue() == PRINTED


def test_a_mark_of_another_attempt_is_only_text() -> None:
    out = io.BytesIO()
    Unmarked(out, "4567").write(WHOLE)
    assert M in out.getvalue()
