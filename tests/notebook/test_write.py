"""Writing: whole or not at all, beside a person's edits, without paths and secrets."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from metta_jobs.errors import InvalidInput, MissingExtra, RunFailed, UnknownName
from metta_jobs.notebook import default_path, extra, write_notebook
from metta_jobs.notebook.scrub import scrub
from metta_jobs.views import GroupView


def test_written_without_execution_in_a_new_folder(group: GroupView, project: Path) -> None:
    path = write_notebook(group, project / "new" / "deep" / "n.ipynb", project / "job_state", execute=False)
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.metta_jobs.group == "sweep-1"
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert [entry.name for entry in path.parent.iterdir()] == ["n.ipynb"]


def test_an_edited_notebook_is_kept(group: GroupView, project: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = default_path("sweep-1", project)
    for _ in range(2):
        write_notebook(group, path, project / "job_state", execute=False)
    assert [entry.name for entry in path.parent.iterdir()] == ["sweep-1.ipynb"]
    for number in (1, 2):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.insert(3, new_code_cell(f"my_analysis_{number} = 1", id="mine"))
        nbformat.write(notebook, path)
        write_notebook(group, path, project / "job_state", execute=False)
        assert f"my_analysis_{number}" in path.with_name(f"sweep-1.edited-{number}.ipynb").read_text()
    assert "my_analysis" not in path.read_text()
    assert "kept as sweep-1.edited-2.ipynb" in caplog.text


def test_what_is_written_into_log_and_scratch_stays(group: GroupView, project: Path) -> None:
    path = write_notebook(group, default_path("sweep-1", project), project / "job_state", execute=False)
    notebook = nbformat.read(path, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["log-hypothesis"].source = "### Hypothesis\n\nIt learns."
    cells["scratch"].source = "mine = 1"
    notebook.cells.append(new_code_cell("1 / 0", id="more-of-mine"))
    nbformat.write(notebook, path)
    for sections in ([], ["analysis"], ["analysis", "export"]):
        write_notebook(group, path, project / "job_state", execute=False, sections=sections)
        again = nbformat.read(path, as_version=4)
        ids = [cell.id for cell in again.cells]
        assert "It learns." in next(cell.source for cell in again.cells if cell.id == "log-hypothesis")
        assert ids[ids.index("scratch") + 1] == "more-of-mine"
        assert ids.index("more") < ids.index("about-log") < ids.index("scratch")
        assert sections != ["analysis", "export"] or ids[-2:] == ["about-export", "export"]
        assert again.cells[ids.index("more-of-mine")].metadata.tags == ["raises-exception"]
        assert [entry.name for entry in path.parent.iterdir()] == ["sweep-1.ipynb"]


def test_sections_are_chosen_by_name(group: GroupView, project: Path) -> None:
    def heads(*sections: str) -> list[str]:
        path = write_notebook(group, project / "s.ipynb", project / "job_state", execute=False, sections=sections)
        ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
        return [name.removeprefix("about-") for name in ids if name.startswith("about-")]

    assert heads("monitor, launch", "state") == ["setup", "links", "launch", "monitor"]
    assert heads()[:2] == ["setup", "links"] and heads()[-2:] == ["log", "scratch"]
    with pytest.raises(UnknownName, match=r"no section 'analisys'. Did you mean 'analysis'\? There are: setup, "):
        heads("analisys")


def test_outputs_alone_are_no_edit(group: GroupView, project: Path) -> None:
    path = write_notebook(group, default_path("sweep-1", project), project / "job_state", execute=False)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [new_output("stream", text="run in Jupyter")]
    nbformat.write(notebook, path)
    write_notebook(group, path, project / "job_state", execute=False)
    assert [entry.name for entry in path.parent.iterdir()] == ["sweep-1.ipynb"]


def test_another_file_of_that_name_is_kept(group: GroupView, project: Path) -> None:
    path = default_path("sweep-1", project)
    path.write_text("no notebook")
    write_notebook(group, path, project / "job_state", execute=False)
    assert path.with_name("sweep-1.edited-1.ipynb").read_text() == "no notebook"


def test_a_failing_cell_is_told_and_the_notebook_written_without_paths(
    group: GroupView, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No database holds this group: the setup cell fails."""
    monkeypatch.setenv("MY_API_KEY", "s3cret-s3cret")
    with pytest.raises(RunFailed, match=r"was written, but the cell 'setup' failed: StoreError: .* is gone"):
        write_notebook(group, default_path("sweep-1", project), project / "job_state")
    text = default_path("sweep-1", project).read_text()
    assert "StoreError" in text
    for place in (str(project), str(project.parent), sys.prefix, str(Path.home()) + "/"):
        assert place not in text
    assert "s3cret" not in text


def test_places_that_cannot_be_written(group: GroupView, project: Path) -> None:
    with pytest.raises(InvalidInput, match=r"must end with \.ipynb"):
        write_notebook(group, project / "n.txt", project / "job_state")
    (project / "file").touch()
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_notebook(group, project / "file" / "n.ipynb", project / "job_state")


def test_a_missing_package_is_named(group: GroupView, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "nbclient" else object())
    with pytest.raises(MissingExtra, match="Notebooks need nbclient, not installed here"):
        write_notebook(group, project / "n.ipynb", project / "job_state")


def test_scrubbing_knows_places_and_secrets_in_every_kind_of_output(tmp_path: Path) -> None:
    project, state = tmp_path / "p", tmp_path / "p" / "job_state"
    said = f"{project}/a {project}-other {state}/jobs key=abcdefgh-1 {sys.prefix}/lib/x"
    cell = new_code_cell("x")
    cell.outputs = [
        new_output("stream", text=said),
        new_output("error", ename="E", evalue=said, traceback=[said]),
        new_output(
            "display_data", data={"text/html": said, "image/png": "abcdefgh-1", "application/json": {"k": [said]}}
        ),
    ]
    scrub(new_notebook(cells=[cell]), project, state, {"WANDB_API_KEY": "abcdefgh-1", "SHORT_KEY": "lib", "HOME": "a"})
    stream, error, shown = cell.outputs
    clean = stream.text
    assert clean.startswith("<project>/a ")
    assert " <state>/jobs key=*** <environment>/lib/x" in clean
    assert f"{project} " not in clean and "p-other" in clean
    assert (
        error.evalue == error.traceback[0] == shown.data["text/html"] == shown.data["application/json"]["k"][0] == clean
    )
    assert shown.data["image/png"] == "abcdefgh-1"
