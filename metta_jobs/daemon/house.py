"""What the daemon works with. Nothing here must survive it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from metta_jobs.clock import Clock
from metta_jobs.daemon.patience import Patience
from metta_jobs.daemon.readings import Readings
from metta_jobs.daemon.secrets import Secrets
from metta_jobs.executors.base import Executor, Key
from metta_jobs.paths import StateDir
from metta_jobs.store.capacity import Machine
from metta_jobs.store.engine import Store
from metta_jobs.store.queue import LiveAttempt
from metta_jobs.views import Silence


@dataclass
class Launches:
    """Launches of one attempt in this daemon's life, for pauses between them; `refused` says why the last was."""

    count: int = 0
    next_at: float = 0.0
    refused: str | None = None


@dataclass
class House:
    """Store, executors and clock; and memory that saves asking twice.

    `hear` takes the secrets that submitters have sent and nobody has read yet. `neighbours` says which GPUs somebody
    else's program fills.
    """

    store: Store
    state_dir: StateDir
    executors: Mapping[str, Executor]
    clock: Clock
    machine: Machine
    readings: Readings
    boot: str = ""
    secrets: Secrets = field(default_factory=Secrets)
    hear: Callable[[], dict[str, dict[str, str]]] = dict
    neighbours: Callable[[Sequence[str], Collection[str]], Mapping[str, str]] = lambda gpus, held: {}
    known: dict[Key, LiveAttempt] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    launches: dict[Key, Launches] = field(default_factory=dict)
    quick: dict[str, bool] = field(default_factory=dict)  # lane → did its last job end as soon as it had begun?
    judging: set[Key] = field(default_factory=set)  # their metrics are asked for, to judge how they have ended
    in_line: bool = False  # attempts stand behind others: their lanes go on without being asked
    silences: dict[str, Silence] = field(default_factory=dict)  # as they are stored
    quiet: tuple[int, int] | None = None  # the version of the store at which nothing lived
    planned: tuple[int, int] | None = None  # the version of the store that the last plan was made from
    plan_at: float = 0.0  # when time alone may have changed what can start
    all_seen_at: float = -1e9  # when a plan last looked at every job that is ready
    patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(self.clock)
