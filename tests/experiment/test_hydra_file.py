"""The file of a training: Hydra reads what was written, and the file stays what it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from metta_jobs.errors import InvalidInput
from metta_jobs.experiment import TrainerConfig, TrainingRunConfig
from metta_jobs.experiment.hydra import from_yaml, to_yaml
from metta_jobs.paths import find_state_dir

HYDRA_PROGRAM = """
import json, hydra
from omegaconf import OmegaConf

@hydra.main(version_base="1.3", config_path=None)
def train(config):
    print(json.dumps(OmegaConf.to_container(config, resolve=True)))

train()
"""
HARD = TrainingRunConfig(
    curriculum="1e-4",
    agent_config={
        "1e5": 10**30,
        "on": "yes",
        "numbers": [1e-5, 1e-4, 0.1 + 0.2, 1e22, -0.0, 5e-324, 3, None, True],
        "texts": [
            "0x1f",
            "~",
            "null",
            "2020-01-01",
            "12:30",
            "",
            " ",
            "a: b",
            "# no comment",
            "-",
            "'",
            '"',
            "\\",
            "0o7",
        ],
        "schlüssel. mit": {},
        "nothing": [],
    },
    wandb_notes='tab\t, two\nlines, ${trainer.seed} \\${x} \\\\${y} $\\{ 🎉 \u2028 \x85 \ufeff "q"',
    trainer=TrainerConfig(optimizer={"learning_rate": 1e-4, "eps": 1e-12}),
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
tricky = st.lists(st.sampled_from(["\\", "$", "{", "}", "a", "${", "${a}", " ", "'", '"', ":", "1e-4"])).map("".join)
keys = st.text(st.characters(categories=["L", "Nd"], include_characters="_ .-:e"), min_size=1)


def says(path: Path, folder: Path) -> Any:
    """What a Hydra program sees that gets this file."""
    program = folder / "train.py"
    program.write_text(HYDRA_PROGRAM)
    flags = ["--config-path", str(path.parent), "--config-name", path.stem, f"hydra.run.dir={folder}/out"]
    done = subprocess.run([sys.executable, program, *flags], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_hydra_program_sees_the_values(tmp_path: Path) -> None:
    path, config = HARD.serialize_to_yaml_file("lr=1e-4", tmp_path / "configs")
    assert path.name == "lr=1e-4.yaml"
    assert path.read_text().startswith("# @package _global_\n")
    assert says(path, tmp_path) == config == HARD.model_dump(mode="json")


@pytest.mark.parametrize("name", ["a.s1", "a,b+c@d", "größe", "1e-4", "_-x"])
def test_any_name_of_a_job_names_a_file_that_hydra_finds(tmp_path: Path, name: str) -> None:
    path, config = TrainingRunConfig().serialize_to_yaml_file(name, tmp_path / "configs")
    assert says(path, tmp_path) == config


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path, _ = HARD.serialize_to_yaml_file(folder=tmp_path)
    assert TrainingRunConfig.from_yaml_file(path) == HARD
    assert TrainingRunConfig.model_validate(str(path)) == HARD, "a path stands for what is in it"
    assert TrainingRunConfig.from_yaml_file(path).serialize_to_yaml_file(folder=tmp_path)[0] == path


@given(st.recursive(scalars | tricky, lambda part: st.lists(part) | st.dictionaries(keys, part), max_leaves=10))
def test_whatever_it_holds_is_what_omegaconf_reads(value: Any) -> None:
    text = to_yaml({"value": value})
    assert from_yaml(text) == {"value": value}
    if value != "???":
        read = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
        assert read == {"value": value}
        assert repr(read) == repr({"value": value}), "1 is not 1.0, and 0.0 not -0.0"


def test_what_people_write_by_hand_means_what_it_means_to_hydra() -> None:
    text = "a: 1e-4\nb: 5.e2\nc: 1_000\nd: text\ne: -1E+2\nf: 'x\\${y}'\n"
    assert from_yaml(text) == {"a": 1e-4, "b": 500.0, "c": 1000, "d": "text", "e": -100.0, "f": "x${y}"}
    assert OmegaConf.to_container(OmegaConf.create(text), resolve=True) == from_yaml(text)


def test_one_file_for_one_job_kept_as_it_is(tmp_path: Path) -> None:
    first, _ = TrainingRunConfig().serialize_to_yaml_file("a", tmp_path)
    again, _ = TrainingRunConfig().serialize_to_yaml_file("a", tmp_path)
    other, _ = TrainingRunConfig(seed=2).serialize_to_yaml_file("a", tmp_path)
    named, _ = TrainingRunConfig().serialize_to_yaml_file("b", tmp_path)
    assert first == again
    assert len({first, other, named}) == 3
    assert first.stat().st_mode & 0o777 == 0o444
    first.unlink()
    first.write_text("half a fi")
    assert TrainingRunConfig().serialize_to_yaml_file("a", tmp_path)[0].read_text() != "half a fi"


def test_by_default_it_lies_in_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METTA_JOB_STATE", str(tmp_path / "state"))
    path, _ = TrainingRunConfig().serialize_to_yaml_file()
    assert path.name == "train.yaml"
    assert path.parent.parent == find_state_dir() / "configs" == tmp_path / "state" / "configs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("a: ${b}", "Hydra alone resolves"),
        ("- 1", "is no configuration"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        TrainingRunConfig.from_yaml_file(path)


def test_a_name_that_no_job_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be a name"):
        TrainingRunConfig().serialize_to_yaml_file("../x", tmp_path)
