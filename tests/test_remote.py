"""What a remote job may ask for, what is refused in which words, and what SkyPilot is handed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import metta_jobs
from metta_jobs.errors import InvalidInput
from metta_jobs.job import JobConfig
from metta_jobs.recipe.build import override
from metta_jobs.remote import CLOUDS, NO_SPOT, RemoteConfig, cloud_of, is_legal_name, legal_name

ANY_GPU = {"8GB+": 1}


def test_it_is_public_where_it_was() -> None:
    assert metta_jobs.RemoteConfig is RemoteConfig
    assert JobConfig(name="a", command=("x",), remote=RemoteConfig()).remote == RemoteConfig()


# --------------------------------------------------------------------------------------------------- handed over


@pytest.mark.parametrize(
    ("fields", "resources"),
    [
        ({}, {"use_spot": True, "accelerators": ANY_GPU}),
        ({"gpus": 0}, {"use_spot": True}),
        ({"gpus": 8, "gpu_type": "H100"}, {"use_spot": True, "accelerators": {"H100": 8}}),
        ({"gpus": 2.0, "gpu_type": "A100-80GB"}, {"use_spot": True, "accelerators": {"A100-80GB": 2}}),
        ({"gpus": 0, "cpus": 4}, {"use_spot": True, "cpus": "4+"}),
        ({"gpus": 0, "cpus": 0.5, "memory_gb": 1.25}, {"use_spot": True, "cpus": "0.5+", "memory": "1.25+"}),
        ({"gpus": 0, "memory_gb": 1_000_000}, {"use_spot": True, "memory": "1000000+"}),
        ({"gpus": 0, "spot": False}, {"use_spot": False}),
        ({"gpus": 0, "infra": "aws/us-east-1"}, {"use_spot": True, "infra": "aws/us-east-1"}),
        ({"gpus": 0, "infra": "slurm"}, {"use_spot": False, "infra": "slurm"}),
        ({"infra": "slurm/lab"}, {"use_spot": False, "infra": "slurm/lab", "accelerators": {"GPU": 1}}),
        ({"gpus": 0, "image": "docker:a/b:1"}, {"use_spot": True, "image_id": "docker:a/b:1"}),
        ({"gpus": 0, "disk_gb": 100}, {"use_spot": True, "disk_size": 100}),
        ({"gpus": 0, "recovery": "failover"}, {"use_spot": True, "job_recovery": {"strategy": "FAILOVER"}}),
        (
            {"gpus": 0, "max_restarts_on_errors": 2},
            {"use_spot": True, "job_recovery": {"max_restarts_on_errors": 2}},
        ),
        ({"gpus": 0, "priority": -1000}, {"use_spot": True, "priority": -1000}),
        ({"gpus": 0, "pool": "lab", "max_runtime_hours": 3}, {}),
        ({"gpus": 1, "pool": "lab", "infra": "slurm"}, {"infra": "slurm", "accelerators": {"GPU": 1}}),
    ],
)
def test_resources_hold_what_was_asked_for_and_no_more(fields: dict[str, Any], resources: dict[str, Any]) -> None:
    assert RemoteConfig(**fields).resources() == resources


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"nodes": 3}, {"num_nodes": 3}),
        ({"setup": "  pip install x\n"}, {"setup": "pip install x"}),
        ({"env": {"A": "b c"}}, {"envs": {"A": "b c"}}),
        ({"secrets": ("WANDB_API_KEY",)}, {}),  # their values are for the daemon to add
        ({"workdir": "git"}, {}),
        ({"workdir": None}, {}),
        ({"workdir": Path("/srv/code")}, {"workdir": "/srv/code"}),
        ({"workdir": "/srv/code"}, {"workdir": "/srv/code"}),
        ({"file_mounts": {"~/d/": "s3://bucket/d/"}}, {"file_mounts": {"~/d": "s3://bucket/d"}}),
        ({"file_mounts": {"/d": "/srv/../srv/d/"}}, {"file_mounts": {"/d": "/srv/d"}}),
    ],
)
def test_a_task_has_the_rest(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"setup": None, "envs": {}, "num_nodes": 1, "workdir": None, "file_mounts": {}}
    task = RemoteConfig(gpus=0, **fields).task_fields()
    assert task == plain | {"resources": {"use_spot": True}} | expected
    assert json.loads(json.dumps(task)) == task


def test_relative_paths_are_those_of_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = RemoteConfig(workdir=Path("./git"), file_mounts={"/d": "data"})
    assert (config.workdir, config.file_mounts) == (tmp_path / "git", {"/d": str(tmp_path / "data")})
    monkeypatch.chdir("/")
    assert RemoteConfig.model_validate_json(config.model_dump_json()) == config


# --------------------------------------------------------------------------------------------------- infra and spot


@pytest.mark.parametrize(
    ("infra", "stored", "cloud"),
    [
        ("AWS", "aws", "aws"),
        (" gcp/us-central1/us-central1-a/ ", "gcp/us-central1/us-central1-a", "gcp"),
        ("k8s", "kubernetes", "kubernetes"),
        ("k8s/arn:aws:eks:x/y/z", "kubernetes/arn:aws:eks:x/y/z", "kubernetes"),
        ("ssh/a/b/c", "ssh/a/b/c", "ssh"),
        ("*", "*", None),
        ("*/us-east-1", "*/us-east-1", None),
        ("Slurm/Lab/gpu", "slurm/Lab/gpu", "slurm"),
        ("digitalocean", "do", "do"),
        (None, None, None),
    ],
)
def test_an_infra_is_a_cloud_and_where_in_it(infra: str | None, stored: str | None, cloud: str | None) -> None:
    config = RemoteConfig(infra=infra)
    assert (config.infra, config.cloud, cloud_of(infra)) == (stored, cloud, cloud)


@pytest.mark.parametrize("cloud", sorted(CLOUDS))
def test_spot_is_the_default_only_where_there_is_any(cloud: str) -> None:
    assert RemoteConfig(infra=cloud).spot is (cloud not in NO_SPOT)
    assert override(RemoteConfig(), [f"infra={cloud}"]).spot is (cloud not in NO_SPOT)
    assert RemoteConfig(infra=cloud, spot=False).spot is False


@pytest.mark.parametrize("infra", ["slurm", "Slurm/lab/gpu", "lambda"])
def test_spot_that_somebody_asked_for_is_refused_where_there_is_none(infra: str) -> None:
    with pytest.raises(ValidationError, match=r"no spot instances on (slurm|lambda): say spot=false"):
        RemoteConfig(infra=infra, spot=True)
    with pytest.raises(InvalidInput, match=r"no spot instances on .*: say spot=false\.$"):
        override(RemoteConfig(), [f"infra={infra}", "spot=true"])


# --------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"gpus": 0.5}, "0.5 GPUs cannot be given: nodes come with whole GPUs"),
        ({"gpus": 1.5}, "1.5 GPUs cannot be given"),
        ({"gpus": float("inf")}, "inf GPUs cannot be given"),
        ({"gpus": -1}, "greater than or equal to 0"),
        ({"gpus": 0, "gpu_type": "A100"}, "gpu_type is A100 and gpus is 0"),
        ({"gpu_type": "A100:8"}, "'A100:8' is no type of GPU: write A100, and how many of them as gpus"),
        ({"gpu_type": ""}, "is no type of GPU"),
        ({"cpus": 0}, "greater than 0"),
        ({"cpus": float("inf")}, "finite number"),
        ({"memory_gb": -2}, "greater than 0"),
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"infra": "slrum"}, "SkyPilot knows no infra 'slrum'. Did you mean 'slurm'? There are aws, azure"),
        ({"infra": "kubernets"}, "Did you mean 'kubernetes'"),
        ({"infra": "aws//us-east-1a"}, "write cloud, cloud/region or cloud/region/zone"),
        ({"infra": "aws/a/b/c"}, "write cloud, cloud/region or cloud/region/zone"),
        ({"infra": ""}, "is no infra"),
        ({"image": " "}, "it is empty"),
        ({"image": "docker:https://me:hunter2@reg.example/x"}, "looks like a secret"),
        ({"disk_gb": 0}, "greater than or equal to 1"),
        ({"disk_gb": 1.5}, "valid integer"),
        ({"max_runtime_hours": 0}, "greater than 0"),
        ({"env": {"WANDB_API_KEY": "x"}}, "WANDB_API_KEY looks like a secret"),
        ({"env": {"A B": "x"}}, "'A B' cannot be an environment variable"),
        ({"secrets": ("hf_abc/def",)}, "by the names of environment variables, never by their values"),
        ({"file_mounts": {"data": "/d"}}, "'data' cannot be a path on a node: begin with / or ~/"),
        ({"file_mounts": {"/a/../etc": "/d"}}, "cannot be a path on a node"),
        ({"file_mounts": {"s3://b": "/d"}}, "cannot be a path on a node"),
        ({"file_mounts": {"/": "/d"}}, "/ cannot be replaced on a node"),
        ({"file_mounts": {"~/": "/d"}}, "~ cannot be replaced on a node"),
        ({"file_mounts": {"~/sky_workdir/": "/d"}}, "~/sky_workdir cannot be replaced"),
        ({"file_mounts": {"/d": "s4://b/d"}}, "no buckets at s4://. There are s3, gs"),
        ({"file_mounts": {"/d": " "}}, "is empty"),
        ({"file_mounts": {"/d": "https://me:hunter2@x.example/d"}}, "holds a secret"),
        ({"setup": ""}, "it is empty"),
        ({"setup": "export T=ghp_abcdefghijklmnop0123"}, "looks like a secret"),
        ({"max_restarts_on_errors": -1}, "greater than or equal to 0"),
        ({"recovery": "failovr"}, "'failovr' is no way to recover. Did you mean 'FAILOVER'?"),
        ({"pool": "lab", "spot": True}, "the workers of the pool lab are as the pool was made: leave spot out"),
        ({"pool": "lab", "image": "docker:a"}, "leave image out"),
        ({"pool": "lab", "disk_gb": 5}, "leave disk_gb out"),
        ({"pool": "1st"}, "'1st' cannot name a pool"),
        ({"pool": "a;b"}, "cannot name a pool"),
        ({"priority": 1001}, "less than or equal to 1000"),
        ({"gpu": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)) as refused:
        RemoteConfig(**fields)
    assert len(refused.value.errors()) == 1


@pytest.mark.parametrize("field", ["image", "setup", "file_mounts"])
def test_the_sentence_about_a_secret_does_not_repeat_it(field: str) -> None:
    url = "https://me:hunter2@x.example/d"
    with pytest.raises(ValidationError) as refused:
        RemoteConfig.model_validate({field: {"/d": url} if field == "file_mounts" else url})
    assert "hunter2" not in refused.value.errors()[0]["msg"]


# --------------------------------------------------------------------------------------------------- as it is stored


@pytest.mark.parametrize(
    "config",
    [
        RemoteConfig(),
        RemoteConfig(infra="slurm/lab", workdir="git", secrets=("A",)),
        RemoteConfig(workdir=Path("/x"), env={"A": "1"}, file_mounts={"/d": "gs://b"}, recovery="failover", priority=3),
        RemoteConfig(workdir=None, spot=False, max_runtime_hours=0.5, image="docker:a", setup="x"),
        RemoteConfig(workdir=None, pool="p"),
    ],
)
def test_what_is_stored_as_json_comes_back_the_same(config: RemoteConfig) -> None:
    again = RemoteConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert len({again, config}) == 1


def test_what_the_first_version_stored_can_still_be_read() -> None:
    stored = '{"gpus":1.0,"gpu_type":null,"cpus":null,"memory_gb":null,"nodes":2,"spot":true,"infra":null}'
    assert RemoteConfig.model_validate_json(stored) == RemoteConfig(nodes=2)


@given(st.text())
def test_every_text_has_a_legal_name(text: str) -> None:
    assert is_legal_name(legal_name(text))


@pytest.mark.parametrize(
    ("text", "name"), [("a_b.c-d", "a_b.c-d"), ("lr=0.1,x", "lr-0.1-x"), ("a---b", "a-b"), ("_a_", "a"), ("ä", "x")]
)
def test_a_legal_name_stays_close_to_what_was_said(text: str, name: str) -> None:
    assert legal_name(text) == name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "any infra, 1 node of 1 GPU, spot, snapshot of the working tree"),
        (
            {"infra": "slurm", "gpus": 0, "cpus": 1.5, "memory_gb": 4, "workdir": "git"},
            "slurm, 1 node of 1.5+ CPUs, 4+ GB, on demand, the git commit",
        ),
        (
            {"nodes": 2, "gpus": 8, "gpu_type": "H100", "max_runtime_hours": 12, "workdir": None, "infra": "gcp"},
            "gcp, 2 nodes of 8 H100, spot, at most 12 h, no code",
        ),
        ({"pool": "p", "gpus": 0, "workdir": "/a"}, "any infra, 1 node, pool p, the folder /a"),
    ],
)
def test_it_says_what_it_asks_for(fields: dict[str, object], words: str) -> None:
    assert RemoteConfig(**fields).words == words  # type: ignore[arg-type]
