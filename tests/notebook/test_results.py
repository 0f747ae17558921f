"""What the cells call: fetch, links, summary, plot."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from group_views import group_of, job

from metta_jobs.errors import InvalidInput, MissingExtra
from metta_jobs.metrics import Series
from metta_jobs.notebook import GroupResults, extra
from metta_jobs.notebook.runs import Figures
from metta_jobs.states import JobState
from metta_jobs.views import GroupView


@pytest.fixture
def results(group: GroupView) -> GroupResults:
    return GroupResults(lambda: group)


def test_fetch_gives_a_tidy_frame(results: GroupResults) -> None:
    data = results.fetch(["overview/reward", "eval/score"], progress=False)
    assert list(data.columns) == ["run", "metric", "step", "value"]
    counts = data.groupby(["run", "metric"]).size().to_dict()
    each = {"overview/reward": 300, "eval/score": 30}
    assert counts == {(run, key): n for run in ("good", "failed", "killed") for key, n in each.items()}
    good = data[(data.run == "good") & (data.metric == "overview/reward")]
    assert list(good.step) == [100.0 * (i + 1) for i in range(300)]
    assert good.value.iloc[150] == pytest.approx(math.tanh(0.5))


def test_fetch_names_every_run_its_state_and_what_is_missing(
    results: GroupResults, capsys: pytest.CaptureFixture[str]
) -> None:
    data = results.fetch(["overview/reward", "eval/text", "nope"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    some = "1 of 3 metrics, 300 points; never logged: eval/text, nope; 30 of eval/text are no numbers"
    assert lines == [
        f"1/5 good succeeded {some}",
        f"2/5 failed failed with exit code 3 {some}",
        "3/5 mute timed out no metrics: no W&B log, TensorBoard, CSV or JSON lines of it found",
        f"4/5 killed killed {some}",
        "5/5 skipped skipped no metrics: it has not run",
    ]
    assert set(data.metric) == {"overview/reward"}


def test_fetch_reads_the_news(group: GroupView) -> None:
    views = [group, group, replace(group, jobs=group.jobs[:1])]
    results = GroupResults(lambda: views.pop(0))
    assert results.fetch(progress=False).run.nunique() == 3
    assert results.fetch(progress=False).run.nunique() == 1


def test_figures_of_a_curve_that_has_gone_wrong() -> None:
    inf, nan = math.inf, math.nan
    assert Figures.of(Series([1, 2, 3, 4, 5], [1.0, inf, -inf, nan, 4.0])) == Figures(final=4.0, highest=4.0, mean=2.5)
    assert Figures.of(Series([1, 2], [1e308, 1e308])).mean == 1e308
    assert Figures.of(Series([1], [inf])).final == inf
    assert math.isnan(Figures.of(Series([], [])).final)


def test_samples_limit_the_points_but_not_the_figures(results: GroupResults) -> None:
    data = results.fetch(["overview/reward", "overview/sps"], samples=20, progress=False)
    assert data.groupby(["run", "metric"]).size().max() <= 20
    row = results.summary().loc["good"]
    rewards = [math.tanh(i / 300) for i in range(300)]
    assert row["final reward"] == pytest.approx(rewards[-1])
    assert row["max reward"] == pytest.approx(rewards[-1])
    assert row["mean reward"] == pytest.approx(sum(rewards) / 300)
    assert row["mean SPS"] == pytest.approx(1149.5)
    assert row["steps"] == 30_000
    assert row["state"] == "succeeded"
    assert row["duration"] == pd.Timedelta(seconds=3725.4)


def test_the_summary_has_a_row_for_every_run_and_none_for_the_notebook(results: GroupResults) -> None:
    summary = results.summary()
    assert list(summary.index) == ["good", "failed", "mute", "killed", "skipped"]
    assert math.isnan(summary.loc["mute", "final reward"])
    assert summary.loc["failed", "state"] == "failed with exit code 3"
    html = results.summary_table()._repr_html_()
    assert "<td" in html and "30,000" in html and "1:02:05" in html and "notebook" not in html
    assert html.count("–") == 4 + 1 + 6 + 0  # mute: steps, rewards, SPS; skipped: those and its duration


def test_links_are_relative_to_the_notebook_or_on_the_web(results: GroupResults) -> None:
    rows = {row[0]: row for row in results.links().rows}
    run_folder = next(Path("../job_state/jobs/1/1/wandb").glob("offline-run-*"))
    assert rows["good"][2] == f"[local W&B run]({run_folder})"
    assert "[checkpoint step 9.pt](../job_state/jobs/1/1/checkpoints/step%209.pt)" in rows["good"][3]
    assert rows["mute"][2] == "[run folder](../job_state/jobs/3/1)"
    assert rows["killed"][2] == "[W&B](https://wandb.example/t/p/runs/k)"
    assert rows["skipped"][2:] == ("it has not run", "–")
    assert len(results.links()._repr_markdown_().splitlines()) == 2 + 5


def test_a_folder_outside_the_project_is_not_told(project: Path, tmp_path: Path, logged: Path) -> None:
    text = repr(GroupResults(lambda: group_of(job(1, "far", JobState.SUCCEEDED, logged))).links())
    assert "local W&B run (outside this project)" in text
    assert str(logged) not in text and ".." not in text


def test_the_plot_has_one_panel_for_each_metric_and_one_colour_for_each_run(results: GroupResults) -> None:
    figure = results.plot("overview/reward", "overview/sps")
    try:
        reward, sps = figure.axes
        assert (reward.get_title(loc="left"), sps.get_title(loc="left")) == ("overview/reward", "overview/sps")
        assert (reward.get_xlabel(), sps.get_ylabel()) == ("steps", "steps per second")
        curves = [line for line in reward.get_lines() if len(line.get_xdata()) == 300]
        assert [line.get_linestyle() for line in curves] == ["-", "--", "--"]
        assert len({line.get_color() for line in curves}) == 3
        crosses = [line for line in reward.get_lines() if line.get_marker() == "X"]
        assert [float(line.get_xdata()[0]) for line in crosses] == [30_000.0, 30_000.0]
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [
            "good",
            "failed (failed with exit code 3)",
            "killed (killed)",
        ]
        assert reward.xaxis.get_major_formatter()(30_000) == "30k"
    finally:
        plt.close(figure)


def test_a_metric_that_nobody_logged_has_a_panel_that_says_so(results: GroupResults) -> None:
    figure = results.plot("nope")
    try:
        assert [text.get_text() for text in figure.axes[0].texts] == ["no run has logged this"]
        figure.canvas.draw()
    finally:
        plt.close(figure)


def test_plotting_another_metric_fetches_it(results: GroupResults, capsys: pytest.CaptureFixture[str]) -> None:
    results.fetch(["overview/reward"], samples=10, progress=False)
    figure = results.plot("eval/score", columns=3)
    try:
        assert [len(line.get_xdata()) for line in figure.axes[0].get_lines() if line.get_marker() != "X"] == [10] * 3
    finally:
        plt.close(figure)
    assert capsys.readouterr().out == ""


def test_a_group_without_runs(capsys: pytest.CaptureFixture[str]) -> None:
    results = GroupResults(group_of)
    assert results.fetch().empty
    assert "has no runs" in capsys.readouterr().out
    assert results.summary().empty
    assert repr(results) == "sweep-1: 0 runs (none yet)"


def test_bad_arguments_are_named(results: GroupResults, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="takes a list"):
        results.fetch("overview/reward")
    with pytest.raises(InvalidInput, match="samples=1"):
        results.fetch(samples=1)
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="uv sync --extra notebook"):
        results.fetch()


def test_a_log_that_cannot_be_read_is_told_and_the_others_are_read(
    group: GroupView, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = group.jobs[0].folder
    assert folder is not None
    (log,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    log.unlink()
    log.mkdir()  # even root cannot read a folder as a file
    data = GroupResults(lambda: group).fetch()
    assert "no metrics: its log cannot be read (Is a directory)" in capsys.readouterr().out.splitlines()[0]
    assert set(data.run) == {"failed", "killed"}


def test_a_run_that_left_no_files_is_told(group: GroupView, capsys: pytest.CaptureFixture[str]) -> None:
    folder = group.jobs[0].folder
    assert folder is not None
    shutil.rmtree(folder)
    GroupResults(lambda: group).fetch()
    assert "no metrics: it left no files, or they were removed" in capsys.readouterr().out.splitlines()[0]
