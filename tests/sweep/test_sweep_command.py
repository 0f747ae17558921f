"""`metta sweep …` and `metta run RECIPE.sweep`, as people type them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from metta_jobs.errors import AlreadyExists, InvalidInput, MettaError
from metta_jobs.manager import JobManager
from metta_jobs.recipe import build
from metta_jobs.store.words import Origin, SweepState, TrialState
from metta_jobs.sweep import change
from metta_jobs.sweep.book import Book
from metta_jobs.sweep.define import from_file, from_recipe
from metta_jobs.sweep.launch import arguments_of
from metta_jobs.sweep.search import advisor
from tests.processes import metta
from tests.sweep.conftest import tool


def test_from_the_command_to_the_patch(project: Path) -> None:
    done = metta(
        *("sweep", "run", "s", "sweep=quick", "sim_name=toy", "remote=false", "cpus=0", "settings.max_parallel=2"),
        *("sweep_job_overrides.trainer.steps=4", "sweep.protein.num_random_samples=10"),
        cwd=project,
    )
    assert done.returncode == 0, done.stderr
    shown = metta("sweep", "status", "s", cwd=project).stdout
    for words in ("s: ended (all 2 trials are done)", "2 of 2 trials completed", "best so far", "the method is random"):
        assert words in shown, shown
    told = json.loads(metta("sweep", "best", "s", "--json", cwd=project).stdout)["best"][0]
    done = metta("sweep", "best", "s", "--top-n", "2", "--show-scores", "--output-dir", "out", cwd=project)
    assert "trainer.x" in done.stdout and "--output-dir" not in done.stderr
    path = project / "out" / "s_best.yaml"
    x = told["params"]["trainer.x"]
    assert yaml.safe_load(path.read_text()) == {"trainer": {"steps": 4, "x": x}}
    patched = build("toy.train", [f"+patch={path}", "trainer.steps=9"], project).model_dump()
    assert (patched["trainer"]["x"], patched["trainer"]["steps"]) == (x, 9)


@pytest.fixture
def book(project: Path) -> Book:
    """A book in which nobody's loop writes."""
    with JobManager() as manager:
        return Book(manager.state_dir)


def test_what_others_have_tried_is_learned_from(book: Book, project: Path) -> None:
    book.register("s", tool("s", sweep={"method": "protein", "goal": "minimize"}))
    assert change.tell(book, "s", ["trainer.x=0.25"], 3.0, 60.0, False) == 1
    (project / "t.csv").write_text("trainer.x,score,cost,failed\n0.5,2,10,\n7,4,,\n0.75,,5,true\n")
    assert change.take_over(book, "s", "t.csv", None) == change.Imported(stored=3, known=0, lacking=0)
    assert change.take_over(book, "s", "t.csv", None).known == 3
    page = book.page("s")
    assert [(t.origin, t.state, t.params["trainer.x"]) for t in page.trials] == [
        (Origin.TOLD, TrialState.FINISHED, 0.25),
        (Origin.IMPORTED, TrialState.FINISHED, 0.5),
        (Origin.IMPORTED, TrialState.FINISHED, 1.0),  # the nearest legal value
        (Origin.IMPORTED, TrialState.FAILED, 0.75),
    ]
    optimizer = advisor(page.config, None, page.trials)
    assert [(seen.score, seen.cost, seen.failed) for seen in optimizer.observations][:2] == [
        (3.0, 60.0, False),
        (2.0, 10.0, False),
    ]
    assert optimizer.best()[0].score == 2.0
    book.register("other", tool("other", settings={"max_observations_to_load": 2}))
    assert change.take_over(book, "other", "s", None).stored == 2
    assert [trial.params["trainer.x"] for trial in book.page("other").trials] == [1.0, 0.75]
    exported = metta("sweep", "export", "s", cwd=project).stdout
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert [row["params.trainer.x"] for row in rows] == ["0.25", "0.5", "1.0", "0.75"]
    (project / "again.csv").write_text(exported)
    book.register("third", tool("third"))
    assert change.take_over(book, "third", "again.csv", None).stored == 4


def test_an_end_is_recorded_once_and_two_who_ask_get_different_trials(book: Book) -> None:
    from metta_jobs.store.sweeps import Ending

    book.register("s", tool("s", trials=2, settings={"max_parallel": 2, "budget": {"trials": 2}}))
    stale = book.page("s")
    one, two = book.ask("s"), book.ask("s")
    assert not isinstance(one, str | None) and not isinstance(two, str | None)
    assert one.params != two.params and book.ask("s") is None
    assert not book.add_validation(stale.__class__(stale.sweep, tool("s", validate={}), stale.trials), [1])
    assert book.tell(one, Ending(TrialState.FINISHED, 1.0)) and not book.tell(one, Ending(TrialState.FINISHED, 2.0))
    assert book.trial("s", one.number).score == 1.0
    book.tell(two, Ending(TrialState.FAILED, reason="it diverged"))
    assert book.ask("s") == "all 2 trials are done"
    with pytest.raises(AlreadyExists, match="There is a sweep 's' already"):
        book.register("s", tool("s", trials=3))
    assert book.register("s", tool("s", settings={"max_parallel": 2, "budget": {"trials": 2}})).sweep.id == 1


def test_pausing_stopping_and_resuming(book: Book, project: Path) -> None:
    book.register("s", tool("s"))
    assert book.pause("s", paused=True) and not book.pause("s", paused=True)
    assert book.ask("s") is None
    with JobManager() as manager:
        page = change.stop(manager, book, "s", kill=False)
        assert (page.sweep.state, page.sweep.reason) == (SweepState.STOPPED, "stopped by hand")
        with pytest.raises(InvalidInput, match="Say what it gets"):
            change.extend(manager, book, "s", [])


def test_a_file_says_all_of_it(project: Path) -> None:
    text = "module: toy.train\nremote: false\nsweep:\n  metric: reward\n"
    text += "  parameters: {trainer.x: {distribution: uniform, min: 0, max: 1e-1}}\n"
    (project / "sweep.yaml").write_text(text)
    made = from_file(Path("sweep.yaml"), "s", ["sweep.parameters.trainer.x.max=0.5", "settings.budget.trials=7"])
    assert (made.name, made.target, made.settings.budget.trials) == ("s", "toy.train", 7)
    assert arguments_of(made, {"trainer.x": 0.5, "trainer.kind": "1"}) == ["trainer.x=0.5", 'trainer.kind="1"']


UNIT = {"distribution": "uniform", "min": 0, "max": 1}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sweep": {"parameters": {"trainer.y": UNIT}}}, "'trainer.y'"),
        ({"sweep": {"parameters": {"trainer.steps": UNIT}}}, "trainer.steps"),
        ({"sweep_job_overrides": {"trainer": {"stepz": 1}}}, "Did you mean 'steps'"),
        ({"evaluation": {"module": "toy.evaluate", "args": ["checkpointt={checkpoint}"]}}, "takes no checkpointt"),
        ({"schedule": {"phases": [{"name": "p", "sweep": {"parameters": {"trainer.z": UNIT}}}]}}, "Phase 'p'"),
    ],
)
def test_what_the_recipe_does_not_have_is_refused_before_anything_is_stored(
    project: Path, fields: dict[str, object], says: str
) -> None:
    with JobManager() as manager, Book(manager.state_dir) as book:
        with pytest.raises(MettaError, match=says):
            tool("s", **fields).submit(manager)
        assert book.names() == [] and manager.groups() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep.protein.num_random_sample=3"], "Did you mean 'num_random_samples'"),
        (["sweep.method=protien"], "protein"),
        (["settings.max_parallel=0"], "settings.max_parallel"),
        (["sweep.parameters={}"], "nothing to search"),
        (["sim_name=toi"], "no recipe 'toi'"),
        (["sweep_job_overrides.trainer.x=1"], "in sweep.parameters and in sweep_job_overrides"),
    ],
)
def test_mistakes_get_a_sentence(project: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(MettaError, match=says):
        from_recipe("s", ["remote=false", *arguments], project)


def test_an_unknown_sweep_ends_with_2(project: Path) -> None:
    done = metta("sweep", "status", "nothing", cwd=project, METTA_JOB_STATE=str(project / "job_state"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
