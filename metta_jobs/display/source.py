"""Where the monitor's snapshots come from: the caller's fetch, and the jobs' folders."""

from __future__ import annotations

from collections.abc import Callable

from metta_jobs.clock import Clock
from metta_jobs.display.snapshot import DetailReader, MonitorState, Snapshot
from metta_jobs.errors import MettaError


class Source:
    """Takes snapshots. A fetch that fails after the first keeps the last known state, with the error as a warning."""

    def __init__(self, fetch: Callable[[], MonitorState], clock: Clock, logs: bool) -> None:
        self._fetch = fetch
        self._clock = clock
        self._details = DetailReader(logs)
        self._last: MonitorState | None = None

    def snapshot(self, limit: int) -> Snapshot:
        """Fetch the group and read the folders of as many jobs as `limit` lines can show.

        Raises the MettaError of the very first fetch: then there is nothing to show.
        """
        try:
            state = self._last = self._fetch()
        except MettaError as error:
            if self._last is None:
                raise
            state = MonitorState(self._last.group, str(error))
        details = self._details.read(state.group, limit)
        return Snapshot(state.group, self._clock.now().astimezone(), state.warning, details)
