"""A daemon's rounds over a stand-in of SkyPilot at its seam."""

from __future__ import annotations

from metta_jobs.daemon.house import House
from metta_jobs.daemon.tick import tick
from metta_jobs.executors.sky.executor import SkyExecutor
from metta_jobs.job import JobConfig, RemoteConfig
from metta_jobs.store import wishes
from metta_jobs.testing import ManualClock
from tests.executors.seam_fake import FakeSky


def restart(house: House, sky: FakeSky) -> None:
    """A new daemon: nothing of the old one's memory is left."""
    assert isinstance(house.clock, ManualClock)
    house.executors = {**house.executors, "skypilot": SkyExecutor(house.state_dir, sky, house.clock)}  # type: ignore[arg-type]
    house.known.clear()
    house.launches.clear()
    house.quiet = house.planned = None


def remote(name: str, **fields: object) -> JobConfig:
    return JobConfig(name=name, command=("train", "a b"), remote=RemoteConfig(infra="k8s"), **fields)  # type: ignore[arg-type]


def pass_time(house: House, seconds: float, step: float = 1.0) -> None:
    """Rounds, a second apart."""
    assert isinstance(house.clock, ManualClock)
    for _ in range(int(seconds / step)):
        tick(house)
        house.clock.advance(step)
    tick(house)


def kill(house: House, *ids: int) -> None:
    with house.store.write() as connection:
        wishes.wish_kill(connection, house.clock.now(), ids)
