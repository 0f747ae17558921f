"""Progress of runs that go on, have ended, were resumed, or say little."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from wandb_runs import start_logging

from metta_jobs.metrics import Progress, ProgressReader, wandb_progress
from metta_jobs.metrics.reading import find_total
from metta_jobs.metrics.wandb_framing import find_logs


def test_the_newest_values_of_a_finished_run(run_folder: Path) -> None:
    reader = ProgressReader(run_folder)
    seen = reader.poll()
    assert (seen.steps, seen.total, seen.sps) == (30_000.0, 30_000.0, 1299.0)
    assert seen.reward == pytest.approx(math.tanh(299 / 300))
    assert seen.updated_at == pytest.approx(find_logs(run_folder)[0].stat().st_mtime, abs=60)
    assert reader.poll() == seen


def test_a_key_of_ones_own(run_folder: Path) -> None:
    assert ProgressReader(run_folder, reward_key="eval/score", sps_key="nope").poll().reward == 29.0
    assert ProgressReader(run_folder, reward_key="eval/score", sps_key="nope").poll().sps is None


def test_a_resumed_run(resumed_folder: Path, plain_folder: Path) -> None:
    assert ProgressReader(resumed_folder).poll().steps == 7000.0
    plain = ProgressReader(plain_folder).poll()
    assert (plain.steps, plain.total, plain.reward) == (39.0, None, 34.0)


def test_nothing_yet(tmp_path: Path) -> None:
    reader = ProgressReader(tmp_path)
    assert reader.poll() == Progress()
    (tmp_path / "wandb" / "run-20260101_000000-x").mkdir(parents=True)
    (tmp_path / "wandb" / "run-20260101_000000-x" / "run-x.wandb").write_bytes(b":W&")
    assert reader.poll() == Progress()


def test_polling_follows_a_growing_log_to_its_exact_end(run_folder: Path, tmp_path: Path) -> None:
    (real,) = find_logs(run_folder)
    data = real.read_bytes()
    copy = tmp_path / "wandb" / real.parent.name / real.name
    copy.parent.mkdir(parents=True)
    reader = ProgressReader(tmp_path)
    steps: list[float] = []
    for end in range(0, len(data) + 5000, 5000):
        copy.write_bytes(data[:end])
        if (now := reader.poll().steps) is not None:
            steps.append(now)
            assert reader.poll() == ProgressReader(tmp_path).poll()
    assert steps[-1] == 30_000.0
    assert len(set(steps)) > 10


@pytest.mark.parametrize("reward_key", ["overview/reward", "odd", "never/logged"])
def test_a_long_log_is_read_at_its_ends_with_the_same_answer(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, reward_key: str
) -> None:
    slow = ProgressReader(run_folder, reward_key).poll()
    monkeypatch.setattr(wandb_progress, "_WINDOW_BYTES", 10_000)
    assert sum(log.stat().st_size for log in find_logs(run_folder)) > 4 * 10_000
    assert ProgressReader(run_folder, reward_key).poll() == slow
    assert slow.reward == {"overview/reward": pytest.approx(math.tanh(299 / 300)), "odd": -3.0}.get(reward_key)


def test_progress_of_a_job_that_is_running(tmp_path: Path) -> None:
    process = start_logging(tmp_path, "--rows", "100000", "--pause", "0.002")
    try:
        reader = ProgressReader(tmp_path)
        seen: list[float] = []
        deadline = time.monotonic() + 60
        while len(set(seen)) < 3:
            assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "output.log").read_text()
            now = reader.poll()
            if now.steps is not None and now.steps > 3:
                seen.append(now.steps)
                assert now.total == 10_000_000.0
                assert now.sps == 1000 + now.steps / 100 - 1 or now.steps < 1000
            time.sleep(0.01)
        assert seen == sorted(seen)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("config", "total"),
    [
        ({}, None),
        ({"total_timesteps": 5}, 5.0),
        ({"trainer": {"total_timesteps": 1e6}}, 1e6),
        ({"trainer": {"value": {"total_timesteps": 7}}}, 7.0),
        ({"total_timesteps": {"value": 8, "desc": None}}, 8.0),
        ({"total_steps": 3, "a": {"b": {"total_timesteps": 9}}}, 9.0),
        ({"deep": {"total_timesteps": 1}, "total_timesteps": 2}, 2.0),
        ({"agent": {"total_steps": 4}}, 4.0),
        ({"total_timesteps": "many"}, None),
        ({"total_timesteps": True}, None),
        ({"total_timesteps": 0}, None),
    ],
)
def test_the_total_wherever_the_config_has_it(config: dict[str, object], total: float | None) -> None:
    assert find_total(config) == total
