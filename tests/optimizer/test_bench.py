"""The benchmark: its problems have the optima that they claim, its runner and tables work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metta_jobs.errors import UnknownName
from metta_jobs.optimizer.bench.__main__ import main
from metta_jobs.optimizer.bench.problems import HELD_OUT, PROBLEMS, TUNED
from metta_jobs.optimizer.bench.report import apart, interval, table
from metta_jobs.optimizer.bench.runner import chosen
from metta_jobs.optimizer.space import Space


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_no_point_beats_the_optimum(name: str) -> None:
    problem = PROBLEMS[name]()
    space = Space.from_dict(problem.space)
    truths = [problem.truth(space.decode(x)) for x in space.sample(300, np.random.default_rng(1))]
    assert max(truths) <= problem.optimum + 1e-4
    outcome = problem.run(space.decode(space.centre), np.random.default_rng(0))
    assert outcome.cost > 0


def test_what_is_held_out_is_not_tuned_on() -> None:
    assert not set(TUNED) & set(HELD_OUT)
    assert chosen(["tuned", "held-out"]) == chosen(["all"])
    with pytest.raises(UnknownName, match="branin"):
        chosen(["branim"])


def test_the_runner_writes_rows_and_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    words = ["--problems", "branin,mixed7", "--methods", "random,sobol", "--seeds", "2", "--output", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "| branin |" in printed
    rows = json.loads(out.read_text())
    assert len(rows) == 8
    assert all(0 <= row["regret"] < 2 for row in rows)
    assert main(["--table", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert main(["--problems", "nothing-such"]) == 2


def test_a_budget_of_cost_ends_a_search(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert main(["--problems", "training", "--methods", "sobol", "--seeds", "1", "--output", str(out)]) == 0
    row = json.loads(out.read_text())[0]
    assert row["trials"] < 400
    assert 0 < row["area"] < 1


def test_tables_mark_what_cannot_be_told_apart() -> None:
    rows = [
        {"problem": "p", "method": method, "seed": seed, "regret": base + 0.01 * seed}
        for method, base in (("good", 0.1), ("as good", 0.11), ("bad", 0.9))
        for seed in range(8)
    ]
    line = table(rows).splitlines()[-1]
    assert line.count("**") == 2
    assert line.count("*") == 5
    low, high = interval([0.1, 0.2, 0.3, 0.4])
    assert low <= 0.25 <= high
    assert apart([1, 2, 3, 4, 5], [11, 12, 13, 14, 15]) < 0.05
