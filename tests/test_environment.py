from __future__ import annotations

import pytest

from metta_jobs.environment import is_secret, split


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_API_KEY", "x"),
        ("OPENAI_API_KEY", "x"),
        ("HF_TOKEN", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("GITHUB_TOKEN", "x"),
        ("DB_PASSWORD", "x"),
        ("PGPASSWORD", "x"),
        ("SENTRY_DSN", "x"),
        ("my_secret", "x"),
        ("DATABASE_URL", "postgres://user:hunter2@db/x"),
        ("SOMETHING", "ghp_" + "a1" * 18),
        ("SOMETHING", "AKIA" + "ABCD1234" * 2),
        ("SOMETHING", "hf_" + "abcdEFGH" * 4),
        ("SOMETHING", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ],
)
def test_secrets_are_recognised(name: str, value: str) -> None:
    assert is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/me"),
        ("KEYBOARD", "us"),
        ("MONKEY", "banana"),
        ("SSH_AUTH_SOCK", "/run/agent"),
        ("http_proxy", "http://proxy:3128"),
        ("OMP_NUM_THREADS", "1"),
        ("PASSES", "3"),
        ("XDG_SESSION_ID", "3"),
    ],
)
def test_what_is_no_secret_is_kept(name: str, value: str) -> None:
    assert not is_secret(name, value)


def test_what_ties_to_another_run_or_terminal_is_dropped() -> None:
    plain, secret = split(
        {
            "WANDB_SERVICE": "3-tcp",
            "WANDB_RUN_ID": "abc",
            "WANDB_SWEEP_ID": "s",
            "WANDB_PROJECT": "arena",
            "WANDB_API_KEY": "k",
            "METTA_ATTEMPT_TOKEN": "t",
            "METTA_JOB_ID": "7",
            "CUDA_VISIBLE_DEVICES": "3",
            "TMUX": "x",
        }
    )
    assert plain == {"WANDB_PROJECT": "arena"}
    assert secret == {"WANDB_API_KEY": "k"}
