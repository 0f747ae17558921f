from __future__ import annotations

import pytest

from metta_jobs.environment import check_env, environment_id, is_secret, secret_argument, split, wandb_run_id


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
        ("API_KEYS", "x"),
        ("MY_PAT", "x"),
        ("GH_CREDS", "x"),
        ("SSHKEY", "x"),
        ("PRIVATEKEY", "x"),
        ("MYSQL_PWD", "x"),
        ("SLACK_WEBHOOK_URL", "x"),
        ("AZURE_STORAGE_CONNECTION_STRING", "x"),
        ("HEADER", "Authorization: Basic dXNlcjpwYXNz"),
        ("DATABASE_URL", "postgres://user:hun/ter2@db/x"),
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
        ("PATTERN", "x"),
        ("COMPASS", "north"),
        ("TORCH_HOME", "/data/disk-ab12cd34ef56ab12cd34ef56"),
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
            "WANDB_LAUNCH": "true",
            "WANDB_RESUME_FROM": "abc?_step=5",
            "WANDB_TAGS": "mine",
            "WANDB_PROJECT": "arena",
            "WANDB_API_KEY": "k",
            "METTA_ATTEMPT_TOKEN": "t",
            "METTA_JOB_ID": "7",
            "CUDA_VISIBLE_DEVICES": "3",
            "TMUX": "x",
        }
    )
    assert plain == {"WANDB_PROJECT": "arena", "WANDB_TAGS": "mine"}
    assert secret == {"WANDB_API_KEY": "k"}


def test_another_name_for_a_secret_is_a_secret_too() -> None:
    plain, secret = split({"WANDB_API_KEY": "abcdef0123456789", "COPY": "x=abcdef0123456789", "OTHER": "y"})
    assert (plain, set(secret)) == ({"OTHER": "y"}, {"WANDB_API_KEY", "COPY"})


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("train", "--api-key", "x"), "--api-key"),
        (("train", "--wandb-api-key=x"), "--wandb-api-key"),
        (("curl", "https://me:pass@host/"), "argument 1"),
        (("train", "--max-tokens", "100", "--tokenizer", "gpt2", "--keys", "a"), None),
        (("train", "--secret"), None),
    ],
)
def test_secrets_in_commands(command: tuple[str, ...], found: str | None) -> None:
    assert secret_argument(command) == found


def test_an_environment_s_id_differs_where_a_secret_does_and_tells_nothing() -> None:
    one = environment_id({"A": "1"}, {"K": "x"}, b"salt")
    assert one == environment_id({"A": "1"}, {"K": "x"}, b"salt")
    assert (
        len({one, environment_id({"A": "1"}, {"K": "y"}, b"salt"), environment_id({"A": "1"}, {"K": "x"}, b"s")}) == 3
    )


def test_a_tag_that_wandb_would_refuse_is_refused_before() -> None:
    assert check_env({"WANDB_TAGS": "a," + "b" * 64})
    with pytest.raises(ValueError, match="64 characters"):
        check_env({"WANDB_TAGS": "a," + "b" * 65})


def test_a_run_s_id_holds_nothing_that_wandb_refuses_and_differs_by_queue() -> None:
    assert wandb_run_id("ab12cd", "g", "lr=1e-4", 7) == "g-lr-1e-4-7-ab12cd"
    assert len(wandb_run_id("ab12cd", "g" * 120, "n" * 120, 7)) == 128
    assert wandb_run_id("ab12ce", "g", "a", 7) != wandb_run_id("ab12cd", "g", "a", 7)
