"""Metrics read beside the daemon's rounds: by the thread itself, and with a real daemon and real trainings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metta_jobs.daemon import readings
from metta_jobs.daemon.readings import MetricsThread, Reading
from metta_jobs.executors.base import Key
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.metrics import ProgressReader
from metta_jobs.policy import GroupConfig
from metta_jobs.states import JobState
from metta_jobs.views import Progress
from tests.processes import kill_daemon, until

TRAINING = (sys.executable, str(Path(__file__).with_name("training_like.py")))


class Polled:
    """Stands in for ProgressReader: counts polls, says what it is told, costs what it is told."""

    polls: dict[Path, int] = {}
    costs_s = 0.0
    fails: Exception | None = None

    def __init__(self, folder: Path, *, keys: tuple[str, ...] = ()) -> None:
        self.folder, self.keys = folder, keys

    def poll(self) -> Progress:
        if self.fails is not None:
            raise self.fails
        until_s = time.thread_time() + self.costs_s
        while time.thread_time() < until_s:
            pass
        self.polls[self.folder] = self.polls.get(self.folder, 0) + 1
        return Progress(steps=float(self.polls[self.folder]), values=dict.fromkeys(self.keys, 1.0))


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch) -> type[Polled]:
    monkeypatch.setattr(readings, "ProgressReader", Polled)
    monkeypatch.setattr(readings, "LOOK_S", 0.01)
    for name, value in (("polls", {}), ("costs_s", 0.0), ("fails", None)):
        monkeypatch.setattr(Polled, name, value)
    return Polled


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., MetricsThread]]:
    made: list[MetricsThread] = []

    def one(share: float = 1.0) -> MetricsThread:
        made.append(MetricsThread(lambda key: _folder(tmp_path, key), share))
        return made[-1]

    yield one
    for thread in made:
        thread.close()


def _folder(root: Path, key: Key) -> Path:
    folder = root / f"{key[0]}.{key[1]}"
    if key[0] < 1000:
        folder.mkdir(exist_ok=True)
    return folder


def _all(thread: MetricsThread, found: dict[Key, list[Reading]]) -> dict[Key, list[Reading]]:
    for reading in thread.take():
        found.setdefault(reading.key, []).append(reading)
    return found


def test_no_thread_lives_before_there_is_something_to_read(make: Callable[..., MetricsThread]) -> None:
    thread = make()
    thread.follow({}, ())
    assert thread._thread is None
    assert (thread.take(), thread.final((1, 1)), thread.busy) == ([], None, False)


def test_everybody_is_looked_at_in_turn(make: Callable[..., MetricsThread], polled: type[Polled]) -> None:
    thread, found = make(), {}
    keys = {(job, 1): ("loss",) for job in range(1, 8)}
    thread.follow(keys, keys)
    until(lambda: len(_all(thread, found)) == 7 and min(polled.polls.values()) > 3, "some turns")
    assert max(polled.polls.values()) - min(polled.polls.values()) <= 2
    assert found[3, 1][-1].progress.values == {"loss": 1.0}
    thread.follow({(1, 1): ("other",)}, [(1, 1)])
    before = dict(polled.polls)
    until(lambda: polled.polls[thread._folder_of((1, 1))] > before[thread._folder_of((1, 1))] + 3)
    assert sum(polled.polls.values()) - sum(before.values()) < 7 + polled.polls[thread._folder_of((1, 1))]
    assert until(lambda: [r for r in thread.take() if "other" in r.progress.values])


def test_an_end_that_is_waited_for_comes_first_and_rings(
    make: Callable[..., MetricsThread], polled: type[Polled]
) -> None:
    polled.costs_s = 0.006
    thread = make(share=0.001)  # it rests for seconds after each look
    thread.follow({(job, 1): () for job in range(1, 50)}, ())
    until(lambda: polled.polls, "a first look")
    thread.finish((99, 1), ("loss",), urgent=True)
    reading = until(lambda: thread.final((99, 1)), "the urgent reading")
    assert (reading.final, reading.progress.values) == (True, {"loss": 1.0})
    assert sum(polled.polls.values()) < 40
    thread.hear()
    thread.follow({}, [(99, 1)])
    assert thread.final((99, 1)) is reading
    thread.follow({}, [])
    assert thread.final((99, 1)) is None


def test_the_share_of_a_core_is_kept_whatever_a_look_costs(
    make: Callable[..., MetricsThread], polled: type[Polled]
) -> None:
    polled.costs_s = 0.002
    thread = make(share=0.1)
    began = time.monotonic()
    thread.follow({(job, 1): () for job in range(1, 30)}, ())
    until(lambda: sum(polled.polls.values()) >= 30, "thirty looks")
    used_s = sum(polled.polls.values()) * polled.costs_s
    assert used_s / (time.monotonic() - began) < 0.2  # the last stretch is not rested for yet


@pytest.mark.parametrize("defect", [PermissionError(13, "Permission denied", "run.wandb"), ValueError("odd")])
def test_what_cannot_be_read_is_told_and_ends_nothing(
    make: Callable[..., MetricsThread], polled: type[Polled], defect: Exception
) -> None:
    polled.fails = defect
    thread = make()
    thread.finish((1, 1), (), urgent=True)
    reading = until(lambda: thread.final((1, 1)))
    assert reading.error is not None and "cannot be read" in reading.error
    polled.fails = None
    thread.finish((1, 1), (), urgent=True)
    assert until(lambda: thread.final((1, 1))).error is None


def test_a_job_that_left_nothing_has_nothing_to_read(make: Callable[..., MetricsThread], polled: type[Polled]) -> None:
    thread = make()
    thread.finish((5000, 1), (), urgent=False)
    (reading,) = until(thread.take)
    assert (reading.final, reading.error, reading.progress) == (True, None, Progress())
    assert polled.polls == {}
    assert not thread.busy


def test_real_trainings_are_followed_judged_and_tried_again(manager: JobManager) -> None:
    """One test, because each start of wandb costs seconds."""
    rule = {"when": "nan", "metric": "overview/reward", "action": "retry"}
    jobs = [
        JobConfig(name="sick", command=(*TRAINING, "nan"), acceptance="overview/reward >= 10", grace_s=5),
        JobConfig(name="weak", command=(*TRAINING, "well"), acceptance=("overview/reward > 99", "overview/sps == 100")),
    ]
    manager.submit(jobs, group="g", options=GroupConfig.model_validate({"health": rule}))
    until(lambda: manager.job(1).progress is not None, "progress of a running job")
    assert manager.job(1).progress.total == 1000  # type: ignore[union-attr]
    kill_daemon(manager.state_dir)
    manager.start_daemon()
    (manager.state_dir / "jobs" / "1" / "1" / "go-wrong").touch()  # the daemon has seen it well: a checkpoint counts
    sick, weak = manager.wait(["g"], timeout_s=120)
    assert (weak.state, weak.exit_code, weak.reason) == (JobState.FAILED, 0, "overview/reward 10 is not > 99")
    assert (sick.state, sick.attempt, sick.reason) == (JobState.SUCCEEDED, 2, "accepted: overview/reward 10 >= 10")
    told = [event.reason or "" for event in manager.events(["g/sick"]) if event.kind == "health"]
    assert len(told) == 1
    assert told[0].startswith("health: overview/reward was NaN at step ") and told[0].endswith(" → retried")
    folder = manager.state_dir / "jobs" / "1" / "2"
    last = ProgressReader(folder, keys=("overview/reward",)).poll()
    stored = until(lambda: (now := manager.job(1).progress) and now.steps == last.steps and now, "the last values")
    assert replace(stored, updated_at=None) == replace(last, updated_at=None)
    assert stored.updated_at == pytest.approx(last.updated_at, abs=1e-5)
    assert not (folder / "checkpoints" / "step-100.zip").exists(), "it has begun anew"
