"""What is read of the jobs' folders."""

from dataclasses import replace

from display_cases import make_group, make_job

from metta_jobs.display.snapshot import DETAIL_LINES, DetailReader
from metta_jobs.states import JobState


def job_in(folder, job_id, state, log=""):
    folder = folder / str(job_id)
    folder.mkdir(exist_ok=True)
    (folder / "output.log").write_text(log)
    return make_job(job_id, f"job{job_id}", state, folder=folder)


def test_a_growing_log_is_followed_and_an_ended_one_read_once(tmp_path):
    runs = job_in(tmp_path, 1, JobState.RUNNING, "one\n-----\n")
    fails = job_in(tmp_path, 2, JobState.FAILED, "ValueError: x\n")
    reader, group = DetailReader(), make_group([runs, fails])
    assert reader.read(group, 24)[1].log == ("one",)
    assert reader.read(group, 24)[2].error == ("ValueError: x",)
    with (runs.folder / "output.log").open("a") as file:
        file.write("\n".join(map(str, range(100))))
    (fails.folder / "output.log").unlink()
    again = reader.read(group, 24)
    assert again[1].log == tuple(map(str, range(100 - DETAIL_LINES, 100)))
    assert again[2].error == ("ValueError: x",)


def test_completed_jobs_tell_what_they_left(tmp_path):
    job = job_in(tmp_path, 1, JobState.SUCCEEDED, "wandb: View run x at: https://wandb.ai/t/p/runs/1\n")
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "policy.zip").touch()
    found = DetailReader().read(make_group([job]), 24)[1].artifacts
    assert [artifact.kind for artifact in found] == ["wandb", "checkpoint"]


def test_without_logs_no_log_is_shown(tmp_path):
    jobs = [job_in(tmp_path, 1, JobState.RUNNING, "x"), job_in(tmp_path, 2, JobState.FAILED, "Error: y")]
    found = DetailReader(logs=False).read(make_group(jobs), 24)
    assert found[1].log == ()
    assert found[2].error == ()


def test_no_more_logs_are_read_than_fit(tmp_path):
    jobs = [job_in(tmp_path, n, JobState.RUNNING, "x") for n in range(1, 8)]
    found = DetailReader().read(make_group(jobs), 3)
    assert [bool(found[n].log) for n in range(1, 8)] == [True] * 3 + [False] * 4
    assert all(found[n].progress is not None for n in range(1, 8))


def test_a_folder_that_cannot_be_read_says_so_in_its_place(tmp_path):
    job, other = job_in(tmp_path, 1, JobState.RUNNING), job_in(tmp_path, 2, JobState.RUNNING, "fine")
    # The name is too long for any file system.
    job = replace(job, folder=tmp_path / ("x" * 300))
    found = DetailReader().read(make_group([job, other]), 24)
    assert found[2].log == ("fine",)
    assert "cannot be read" in found[1].log[0]
