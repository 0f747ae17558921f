"""How each state looks: a symbol and a word, so that it reads without colour, and a colour of the terminal's own."""

from __future__ import annotations

from dataclasses import dataclass

from metta_jobs.states import JobState


@dataclass(frozen=True)
class Mark:
    """Symbol (one cell), word and rich style of a state."""

    symbol: str
    word: str
    style: str


MARKS: dict[JobState, Mark] = {
    JobState.PENDING: Mark("○", "pending", "yellow"),
    JobState.LAUNCHING: Mark("◌", "launching", "cyan"),
    JobState.RUNNING: Mark("●", "running", "cyan"),
    JobState.SUCCEEDED: Mark("✓", "succeeded", "green"),
    JobState.FAILED: Mark("✗", "failed", "red"),
    JobState.TIMED_OUT: Mark("◷", "timed out", "red"),
    JobState.KILLED: Mark("■", "killed", "magenta"),
    JobState.LOST: Mark("?", "lost", "red"),
    JobState.SKIPPED: Mark("–", "skipped", "magenta"),
}
