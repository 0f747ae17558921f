"""Metrics of scripts that use TensorBoard, CSV or JSON lines, or other names: found and read like W&B's."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path

import pytest
from stable_baselines3.common.logger import configure

from metta_jobs.metrics import ProgressReader, Series, discover, read_series
from metta_jobs.metrics.tfevents import EventTail
from metta_jobs.metrics.wandb_framing import LogTail, find_logs
from metta_jobs.metrics.wandb_records import HISTORY, RowPicker, find_message, history_row

ASSETS = Path(__file__).parent / "assets"
STEPS = [2048.0 * (i + 1) for i in range(200)]


def event_file(version: str) -> Path:
    (path,) = ASSETS.glob(f"*.{version}")
    return path


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tensorboard_s_scalars_on_its_own_steps(tmp_path: Path, version: str) -> None:
    (tmp_path / "logs" / "PPO_1").mkdir(parents=True)
    shutil.copy(event_file(version), tmp_path / "logs" / "PPO_1")
    (source,) = discover(tmp_path)
    assert source.kind == "tensorboard"
    keys = ["overview/reward", "overview/sps", "logs/PPO_1/time/fps", "train/loss", "weights", "note"]
    series = source.history(keys, None)
    assert series["overview/reward"] == Series(STEPS, [i / 4 for i in range(200)])
    assert series["overview/sps"] == series["logs/PPO_1/time/fps"] == Series(STEPS, [1000.0 + i for i in range(200)])
    assert math.isnan(series["train/loss"].values[7])
    assert series["train/loss"].values[9] == pytest.approx(0.1)
    assert series["weights"] == series["note"] == Series([], [])
    assert source.summary["time/fps"] == 1199.0
    assert ProgressReader(tmp_path).poll() == source.progress
    assert ProgressReader(tmp_path, keys=("overview/sps", "none")).poll().values == {"overview/sps": 1199.0}
    assert (source.progress.steps, source.progress.reward, source.progress.updated_at) == (409600, 49.75, 1.75e9 + 199)


def test_an_event_file_cut_anywhere_gives_a_beginning_and_what_follows_later(tmp_path: Path) -> None:
    data = event_file("v2").read_bytes()
    whole = list(EventTail(event_file("v2")).poll())
    chance = random.Random(5)
    path = tmp_path / "events.out.tfevents.1.cut"
    tail, seen, end = EventTail(path), [], 0
    assert list(tail.poll()) == []
    while end < len(data):
        end = min(len(data), end + chance.randrange(1, 900))
        path.write_bytes(data[:end])
        seen += tail.poll()
        assert repr(seen) == repr(whole[: len(seen)])
    assert repr(seen) == repr(whole)
    path.write_bytes(b"\xff" * 100)
    assert list(EventTail(path).poll()) == []


def test_a_csv_whose_header_is_written_anew_by_stable_baselines3(tmp_path: Path) -> None:
    logger = configure(str(tmp_path / "sb3"), ["csv", "json"])
    reader = ProgressReader(tmp_path)
    for i in range(30):
        logger.record("rollout/ep_rew_mean", float(i))
        logger.record("time/fps", 500 + i)
        if i >= 10:
            logger.record("a/late", -i)  # a new first column
        logger.record("time/total_timesteps", 10 * i)
        logger.dump(step=i)
        now = reader.poll()
        assert (now.steps, now.reward, now.sps) == (10.0 * i, float(i), 500.0 + i)
    logger.close()
    table, lines = discover(tmp_path)
    assert (table.kind, lines.kind) == ("csv", "jsonl")
    for source in (table, lines):
        series = source.history(["overview/reward", "a/late"], None)
        assert series["overview/reward"] == Series([10.0 * i for i in range(30)], [float(i) for i in range(30)])
        assert series["a/late"].values == [-float(i) for i in range(10, 30)]


def test_the_steps_of_a_table_are_its_own_column_else_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,reward,note\n10,1.5,a\n20,,b\n30,nan,c\n40,2")
    assert read_series(tmp_path, ["reward"])["reward"].steps == [10.0, 30.0]
    assert ProgressReader(tmp_path).poll().steps == 30.0
    path.write_text("reward,time/total_timesteps\n1,64\n2,128\n")
    assert read_series(tmp_path, ["overview/reward"])["overview/reward"] == Series([64.0, 128.0], [1.0, 2.0])
    path.write_text("reward\n1\n2\n")
    assert read_series(tmp_path, ["reward"])["reward"] == Series([0.0, 1.0], [1.0, 2.0])
    assert ProgressReader(tmp_path).poll().steps == 1.0
    assert ProgressReader(tmp_path, keys=("reward", "none")).poll().values == {"reward": 2.0}


def test_json_lines_with_nested_names_and_lines_that_are_none(tmp_path: Path) -> None:
    record = {"env_runners": {"episode_return_mean": 3.0}, "num_env_steps_sampled_lifetime": 4000}
    (tmp_path / "result.json").write_text(f"{json.dumps(record)}\nnot json\n[1]\n{json.dumps(record)[:20]}")
    assert read_series(tmp_path, ["overview/reward"])["overview/reward"] == Series([4000.0], [3.0])
    assert ProgressReader(tmp_path).poll().reward == 3.0


def test_keys_come_from_the_best_source_that_has_them(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "progress.csv").write_text("overview/reward,only/here\n-1,5\n")
    assert [source.kind for source in discover(folder)] == ["wandb", "csv"]
    series = read_series(folder, ["overview/reward", "only/here"])
    assert len(series["overview/reward"]) == 300
    assert series["only/here"].values == [5.0]


def test_a_retry_goes_on_with_the_curve_of_the_attempt_before(tmp_path: Path) -> None:
    first, second = (tmp_path / "jobs" / "7" / number for number in "12")
    for folder, text in ((first, "10,1\n20,2\n30,3\n"), (second, "30,13\n40,14\n")):
        folder.mkdir(parents=True)
        (folder / "progress.csv").write_text("global_step,reward\n" + text)
    assert read_series(second, ["reward"])["reward"] == Series([10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 13.0, 14.0])
    assert read_series(first, ["reward"])["reward"].steps == [10.0, 20.0, 30.0]
    assert discover(second, earlier=False)[0].history(["reward"])["reward"].steps == [30.0, 40.0]
    (second / "progress.csv").write_text("global_step,reward\n10,5\n")
    assert read_series(second, ["reward"])["reward"] == Series([10.0], [5.0])


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    assert discover(tmp_path / "gone") == []
    assert read_series(tmp_path, ["a"]) == {"a": Series([], [])}


def test_picking_rows_by_their_bytes_gives_what_decoding_them_gives(run_folder: Path) -> None:
    keys = ["overview/reward", "eval/text", "odd", "inner", "nested.inner", "never"]
    for wanted in (keys, [key for key in keys if "." not in key], []):
        picker, count = RowPicker(wanted), 0
        names = frozenset(key.encode() for key in (*wanted, "_step"))
        for records in LogTail(find_logs(run_folder)[0]).batches():
            for record in records:
                kind, start, end = find_message(record)
                if kind == HISTORY:
                    count += 1
                    slow = history_row(record, start, end, names)
                    fast = picker.row(record, start, end)
                    assert repr([fast.get(key) for key in ("_step", *wanted)]) == repr(
                        [slow.get(key) for key in ("_step", *wanted)]
                    )
        assert count > 300
