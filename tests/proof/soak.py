"""The long proof: `python -m tests.proof.soak [--minutes 10] [--jobs 2000] [--seed N]`, or `make soak`.

Eight submitters put jobs with dependencies and retries into one queue, four readers look at it, jobs are killed, and
the daemon is killed by SIGKILL every few seconds, until all jobs have ended. Then every promise is checked.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path

from metta_jobs.errors import MettaError
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager, Reader
from metta_jobs.policy import RetryPolicy
from tests.conftest import clean_up
from tests.processes import kill_daemon
from tests.proof.checker import broken, witness

SUBMITTERS, READERS = 8, 4


def submit(root: Path, log: Path, number: int, jobs: int, seed: int, minutes: float, complaints: Path) -> None:
    """Submit jobs in small groups, spread over the time, each depending on earlier ones of its group."""
    rng = random.Random(seed + number)
    try:
        with JobManager(root) as manager:
            for batch in range(0, jobs, 10):
                configs = [_job(rng, f"j{i}", log, i) for i in range(min(10, jobs - batch))]
                manager.submit(configs, group=f"s{number}-{batch}")
                if rng.random() < 0.3:
                    manager.kill([f"s{number}-{batch}/j{rng.randrange(len(configs))}"], force=rng.random() < 0.5)
                time.sleep(rng.uniform(0, 2 * minutes * 60 * 10 / max(jobs, 1) * 0.6))
    except (MettaError, OSError) as error:
        _complain(complaints, f"submitter {number}: {error}")


def _job(rng: random.Random, name: str, log: Path, place: int) -> JobConfig:
    kinds = ("afterok", "afterany", "afternotok", "afterany")
    parents = [f"{rng.choice(kinds)}:j{p}" for p in rng.sample(range(place), min(place, rng.choice([0, 0, 1, 2])))]
    retry = RetryPolicy(max_attempts=3, backoff_s=rng.choice([0, 0.5])) if rng.random() < 0.3 else None
    seconds = rng.choice([0, 0, 0, 0.05, rng.uniform(0, 1)])
    return witness(name, log, seconds, rng.choice([0, 0, 0, 1]), depends_on=tuple(parents), retry=retry, grace_s=0.5)


def read(root: Path, number: int, over: Event, complaints: Path) -> None:
    """Look at everything, again and again."""
    rng = random.Random(number)
    try:
        with Reader(root) as reader:
            while not over.is_set():
                groups = reader.groups()
                if groups:
                    reader.group(rng.choice(groups).name)
                    reader.all_events(after=max(0, reader.last_event() - 50))
                time.sleep(0.05)
    except (MettaError, OSError) as error:
        _complain(complaints, f"reader {number}: {error}")


def _complain(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def soak(root: Path, log: Path, *, minutes: float, jobs: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Do all of it; return the promises that do not hold, and how the jobs ended."""
    os.environ["METTA_CPUS"] = "8"
    rng = random.Random(seed)
    complaints = root.parent / "complaints"
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    with JobManager(root) as manager:
        manager.start_daemon()
        share = jobs // SUBMITTERS
        writers = [
            context.Process(target=submit, args=(root, log, n, share, seed, minutes, complaints))
            for n in range(SUBMITTERS)
        ]
        readers = [context.Process(target=read, args=(root, n, over, complaints)) for n in range(READERS)]
        for process in (*writers, *readers):
            process.start()
        kills, deadline = 0, time.monotonic() + minutes * 60 + 600
        while any(w.is_alive() for w in writers) or any(g.counts.unfinished for g in manager.groups()):
            time.sleep(rng.uniform(1, 5) if minutes > 1 else rng.uniform(0.3, 1.5))
            kills += kill_daemon(root) is not None
            manager.start_daemon()
            if time.monotonic() > deadline:
                break
        over.set()
        for process in (*writers, *readers):
            process.join(60)
        manager.stop_daemon()
        ends = Counter(job.state.value for group in manager.groups() for job in manager.group(group.name).jobs)
    wrong = broken(root, log) + (complaints.read_text().splitlines() if complaints.exists() else [])
    if sum(ends.values()) != share * SUBMITTERS:
        wrong.append(f"{share * SUBMITTERS} jobs were submitted, {sum(ends.values())} are stored")
    if not kills:
        wrong.append("the daemon was never killed")
    ends["daemon killed"] = kills
    return wrong, ends


def main() -> int:
    """Soak, and say what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "job_state"
        try:
            wrong, ends = soak(
                root, root.parent / "witness", minutes=options.minutes, jobs=options.jobs, seed=options.seed
            )
        finally:
            clean_up(root)
    print(dict(ends))
    for line in wrong:
        print(line)
    print("every promise holds" if not wrong else f"{len(wrong)} promises are broken")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
