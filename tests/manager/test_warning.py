"""What a reader is told about states that may be old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metta_jobs.daemon.lock import DaemonLock
from metta_jobs.manager.look import Reader
from metta_jobs.paths import StateDir
from metta_jobs.store import silences
from metta_jobs.store.engine import Store
from metta_jobs.views import Silence


@pytest.mark.parametrize(("minutes", "words"), [(0.8, "1 min"), (3.5, "3 min"), (125, "2 h 5 min")])
def test_who_does_not_answer_is_named_with_how_long_that_lasts(tmp_path: Path, minutes: float, words: str) -> None:
    with Reader(tmp_path) as reader:
        assert "No daemon runs" in (reader.warning(True) or "")
        lock = DaemonLock(StateDir(tmp_path).daemon_lock)
        assert lock.acquire({"pid": 1, "started_at": "2026-01-01", "version": "0", "schema": "0"})
        assert reader.warning(True) is None
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        store = Store(StateDir(tmp_path).database)
        with store.write() as connection:
            silences.save(connection, {"skypilot": Silence("SkyPilot", since, "the API server is not there.")})
        assert reader.warning(True) == (
            f"SkyPilot has not answered for {words}: of what runs there, this is the last known state. No job is "
            "harmed by it (the API server is not there)."
        )
        assert reader.warning(True, elsewhere=False) is None
        assert reader.warning(False) is None
        with store.write() as connection:
            silences.save(connection, {})
        assert reader.warning(True) is None
        store.close()
        lock.release()
