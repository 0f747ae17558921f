"""What people call in notebooks of their own, on real runs: ended, failed, killed, and still running."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from group_views import LOGGER, job

from metta_jobs.errors import InvalidInput, UnknownName
from metta_jobs.experiment import ExperimentTool, TrainerConfig, TrainingRunConfig
from metta_jobs.job import JobConfig
from metta_jobs.manager import JobManager
from metta_jobs.metrics import ProgressReader
from metta_jobs.notebook import (
    create_run_summary_table,
    export_html,
    fetch_metrics,
    find_training_jobs,
    load_group,
    load_jobs,
    monitor_training_statuses,
    plot_learning_curves,
    plot_sps,
)
from metta_jobs.notebook.__main__ import main
from metta_jobs.notebook.differences import compare
from metta_jobs.states import JobState
from tests.processes import until

LOG = f'{sys.executable} {LOGGER} "$METTA_JOB_DIR" --rows'


def logged(manager: JobManager, target: str, rows: int) -> bool:
    folder = manager.one(target).folder
    return folder is not None and (ProgressReader(folder).poll().steps or 0) >= 100 * rows


def test_mid_run_after_a_failure_and_a_kill(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody there: nothing may need W&B
    monkeypatch.setenv("WANDB_MODE", "offline")
    error = "raise RuntimeError('CUDA out of memory')"
    manager.submit(
        [
            JobConfig(name="good", command=("sh", "-c", f"{LOG} 100", "lr=1e-3"), cpus=0.1),
            JobConfig(
                name="bad", command=("sh", "-c", f'{LOG} 50; {sys.executable} -c "{error}"', "lr=3e-3"), cpus=0.1
            ),
            JobConfig(name="stopped", command=("sh", "-c", f"{LOG} 90000 --pause 0.02"), cpus=0.1),
        ],
        group="one",
    )
    env = {"WANDB_TAGS": "ablation,long"}
    manager.submit(
        [JobConfig(name="going", command=("sh", "-c", f"{LOG} 90000 --pause 0.02"), cpus=0.1, env=env)], group="two"
    )
    for target in ("one/stopped", "two/going"):
        until(lambda target=target: logged(manager, target, 20), f"{target} to log")
    manager.kill(["one/stopped"])
    manager.wait(["one"], timeout_s=120)

    data = fetch_metrics(["one", "two/going"], ["overview/reward"])
    assert list(data.run.unique()) == ["one/good", "one/bad", "one/stopped", "two/going"]
    bad = data[data.run == "one/bad"]
    assert list(bad.step) == [100.0 * (i + 1) for i in range(50)]
    assert list(bad.value) == pytest.approx([math.tanh(i / 50) for i in range(50)])
    frame = monitor_training_statuses(["one", "two"]).frame
    assert list(frame.state) == ["succeeded", "failed with exit code 1", "killed", "running"]
    assert frame.progress["one/good"] == 1 and 0 < frame.progress["two/going"] < 0.1
    assert frame.updated_s_ago["two/going"] >= 0 and frame.eta_s["two/going"] > 0
    table = create_run_summary_table("one")
    assert table.frame["final reward"]["bad"] == pytest.approx(math.tanh(49 / 50))
    for figure in (plot_sps(["one", "two/going"]), plot_learning_curves("one", "overview/reward", "eval/score")):
        assert figure.axes[0].lines
        plt.close(figure)
    results = load_group("one")
    assert list(results.failures().frame.index) == ["bad", "stopped"]
    assert results.failures().frame.output["bad"].startswith("RuntimeError: CUDA out of memory")
    settings = load_jobs(["one/good", "one/bad"]).differences()
    assert list(settings.frame.loc["lr"]) == [0.001, 0.003]
    assert list(settings.frame.loc["trainer.total_timesteps"]) == [10_000, 5_000]
    assert "trainer.lr" not in settings.frame.index

    (going,) = find_training_jobs(tags=["ablation", "short"], state="running")
    assert (going.group, going.name) == ("two", "going")
    assert [job.name for job in find_training_jobs(group="one", order="name", limit=2)] == ["bad", "good"]
    assert [job.name for job in find_training_jobs(limit=2)] == ["going", "stopped"]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert find_training_jobs(created_after=tomorrow) == [] == find_training_jobs(author="nobody at all")
    assert len(find_training_jobs(created_before=tomorrow, created_after="2026-01-01")) == 4
    assert set(plot_learning_curves(find_training_jobs(state="killed")).axes[0].get_title("left")) <= set(
        "overview/reward"
    )
    plt.close("all")

    ids = [str(job.id) for job in manager.jobs(["one/bad", "two/going"])]
    assert main(["--job-ids", *ids, "--sections", "monitor,analysis,export"]) == 0
    written, page = capsys.readouterr().out.splitlines()
    assert written == str(tmp_path / "notebooks" / f"jobs_{'_'.join(ids)}.ipynb")
    assert re.fullmatch(rf"jobs_{'_'.join(ids)}_\d{{8}}_\d{{6}}\.html", Path(page).name)
    assert Path(page).parent == tmp_path / "notebooks" / "log"
    html = Path(page).read_text()
    for words in ("one/bad", "two/going", "running", "RuntimeError: CUDA out of memory", "data:image/png;base64,"):
        assert words in html
    assert not re.search(r"""(src|href)=["']https?://|import\(|url\(["']?https?:""", html)
    assert str(tmp_path) not in html
    assert "one/bad" in export_html(written, tmp_path / "again.html").read_text()
    manager.kill(["two"], force=True)
    assert monitor_training_statuses("two", refresh_s=0.01).finished


def test_settings_come_from_the_training_s_file_too(manager: JobManager, tmp_path: Path) -> None:
    jobs = []
    for steps in (5000, 6000):
        path, _ = TrainingRunConfig(trainer=TrainerConfig(total_timesteps=steps)).serialize_to_yaml_file(
            f"steps={steps}", tmp_path / "configs"
        )
        command = ("true", "--config-path", str(path.parent), "--config-name", path.stem)
        jobs.append(JobConfig(name=f"n{steps}", command=command))
    path.unlink()
    manager.submit(jobs, group="files")
    manager.wait(["files"], timeout_s=60)
    found = load_group("files", manager.state_dir).differences()
    assert [found.frame["n5000"]["trainer.total_timesteps"], found.frame["n6000"]["trainer.total_timesteps"]] == [
        5000,
        None,
    ]
    assert "steps" not in found.frame.index  # the file's name looks like one
    assert "wandb_project" not in found.frame.index  # null in the one, unknown of the other
    assert found.notes == ["n6000: the file of its training is gone"]
    assert "–" in repr(found) and "<td" in found._repr_html_()


def test_settings_that_differ_among_seeds_alone_have_no_row() -> None:
    rates = {"a": 0.1, "b": 0.5}
    jobs = [
        replace(
            job(number, f"{variant}.s{seed}", JobState.SUCCEEDED, None),
            command=("python", "train.py", f"--seed={seed}", f"--lr={rates[variant]}"),
            variant=variant,
            seed=seed,
        )
        for number, (variant, seed) in enumerate([("a", 1), ("b", 1), ("a", 2), ("b", 2)])
    ]
    found = compare(jobs)
    assert repr(found).splitlines() == ["setting  a    b", "lr       0.1  0.5", "1 of 2 known settings differ."]
    assert list(found.frame.index) == ["seed", "lr"]
    assert repr(compare(jobs[::2])).startswith("setting  a\nseed     1, 2\n1 of 2")


def test_what_cannot_be_is_said(manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    for call, words in [
        (lambda: fetch_metrics([]), "list is empty"),
        (lambda: fetch_metrics("gg"), "no group 'gg'"),
        (lambda: find_training_jobs(state="runing"), "Did you mean 'running'"),
        (lambda: find_training_jobs(group="gg"), "no group 'gg'"),
        (lambda: find_training_jobs(order="size"), "ordered by created_at, name, state"),
        (lambda: find_training_jobs(created_after="soon"), "'soon' is no time"),
        (lambda: find_training_jobs(limit=0), "at least one"),
        (lambda: find_training_jobs(tags="a"), "tags is a list"),
        (lambda: monitor_training_statuses("g", refresh_s=0), "more than 0"),
        (lambda: export_html(tmp_path / "none.ipynb"), "cannot be read"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            call()
    with pytest.raises(UnknownName, match="no job 99"):
        load_jobs([99])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["g", "--format", "marino"], "Did you mean 'marimo'?"),
        (["g", "--sections", "analisys"], "Did you mean 'analysis'?"),
        (["--job-ids", "1", "x"], "'x' is no job's id"),
        (["g", "--job-ids", "1"], "either a GROUP, or --job-ids"),
        ([], "either a GROUP, or --job-ids"),
    ],
)
def test_metta_notebook_says_what_is_wrong(
    manager: JobManager, tmp_path: Path, arguments: list[str], words: str
) -> None:
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    done = subprocess.run(
        [sys.executable, "-m", "metta_jobs", "notebook", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_a_notebook_of_jobs_names_them_by_id(manager: JobManager, tmp_path: Path) -> None:
    manager.submit([JobConfig(name=f"j{i}", command=("true",)) for i in range(9)], group="many")
    ids = [str(job.id) for job in manager.jobs(["many"])]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "metta_jobs",
            "notebook",
            "--format",
            "marimo",
            "--job-ids",
            *ids,
            "--sections",
            "state",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.partition(": ")[2].strip())
    assert re.fullmatch(rf"jobs_{ids[0]}_to_{ids[-1]}_[0-9a-f]{{8}}\.py", path.name)
    assert f"JOBS = {json.dumps([int(job_id) for job_id in ids])}" in path.read_text()


def test_the_author_is_who_submitted_or_who_wandb_takes_them_for(
    manager: JobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "alice")
    manager.submit([JobConfig(name="a", command=("true",))], group="g")
    manager.submit([JobConfig(name="b", command=("true",), env={"WANDB_USERNAME": "bob"})], group="g")
    assert [job.name for job in find_training_jobs(author="alice")] == ["a"]
    assert [job.name for job in find_training_jobs(author="bob")] == ["b"]


def test_an_experiment_s_notebook_has_the_sections_that_it_names() -> None:
    tool = ExperimentTool(module="m.f", runs=["a"], sections=["analysis,state"])
    assert tool.sections == ["setup", "state", "analysis"]
    with pytest.raises(ValueError, match="Did you mean 'state'"):
        ExperimentTool(module="m.f", runs=["a"], sections=["stat"])
