"""One try to deliver a message: what is said, by a command, a webhook and the desktop; and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from metta_jobs.daemon import deliver, digest
from metta_jobs.daemon.deliver import Undelivered
from metta_jobs.daemon.house import House
from metta_jobs.errors import InvalidInput
from metta_jobs.policy import Hook
from metta_jobs.settings import Settings
from tests.daemon.hook_cases import SECRET, Slack, digest_facts, facts, health_facts, means_of
from tests.processes import until

NASTY = "$(touch pwned); `touch pwned` \x1b[31m\0 --help\n<!channel> & 'quo\"te @everyone"


# ---------------------------------------------------------------------------------------------------- words


def test_the_digest_says_counts_time_and_failures() -> None:
    said = digest.text(digest_facts())
    assert said == "g: 5 of 6 succeeded, 1 failed in 1 h 03 min. failed: high_lr (exit code 1)"
    counts = {"succeeded": 0, "failed": 9, "timed_out": 4, "killed": 2, "lost": 0, "skipped": 0}
    many = digest_facts(counts=counts, duration_s=5)
    assert digest.text(many) == (
        "g: 0 of 15 succeeded, 9 failed, 4 timed out, 2 killed in 5 s. failed: high_lr (exit code 1), and 12 more"
    )
    alike = [{"name": f"a.s{n}", "state": "lost", "exit_code": None, "reason": f"no sign for {n} s"} for n in (1, 2)]
    assert digest.details(many | {"failures": alike}) == ["a.s1, a.s2 (2 × no sign for 1 s)", "and 11 more"]
    assert digest.text(facts()) == "g/train failed after 12 min: exit code 3"
    assert digest.text(facts(state="succeeded", reason=None, duration_s=0.2)) == "g/train succeeded after 0 s"
    assert digest.text(facts(state="skipped", reason="a failed", duration_s=None)) == "g/train skipped: a failed"


def test_what_people_wrote_neither_calls_people_nor_makes_links() -> None:
    said = digest.slack(facts(reason=NASTY))
    assert "<" not in said and "&lt;!channel&gt; &amp;" in said
    assert "@everyone" not in said and "\x1b" not in said and "\0" not in said
    assert len(digest.text(facts(reason="x" * 10_000))) < 400


def test_every_fact_is_a_printable_variable() -> None:
    found = digest.variables(facts(reason=NASTY))
    assert found["METTA_REASON"] == "$(touch pwned); `touch pwned` [31m --help <!channel> & 'quo\"te @everyone"
    assert (found["METTA_JOB_ID"], found["METTA_EXIT_CODE"], "METTA_COUNTS" in found) == ("7", "3", False)
    assert digest.variables(facts(exit_code=None))["METTA_EXIT_CODE"] == ""
    group = digest.variables(digest_facts())
    assert json.loads(group["METTA_COUNTS"])["succeeded"] == 5
    assert ("METTA_JOB_NAME" in group, group["METTA_STATE"]) == (False, "failed")
    sick = digest.variables(health_facts())
    assert (sick["METTA_EVENT"], sick["METTA_JOB_NAME"], sick["METTA_EXIT_CODE"]) == ("job_health", "train", "")
    assert sick["METTA_TEXT"] == "g/train: health: overview/reward was NaN at step 40,960"


# ---------------------------------------------------------------------------------------------------- commands


def test_nothing_in_a_fact_is_run_by_a_shell(house: House, tmp_path: Path) -> None:
    out = tmp_path / "said"
    command = ("sh", "-c", f'printf %s "$METTA_REASON" > {out}')
    deliver.deliver(Hook(command=command), facts(reason=NASTY), None, means_of(house))
    assert out.read_text() == "$(touch pwned); `touch pwned` [31m --help <!channel> & 'quo\"te @everyone"
    assert not list(tmp_path.rglob("pwned"))


def test_the_environment_holds_what_the_readme_names_and_no_other_end(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METTA_COUNTS", "of the hook that started the daemon")
    monkeypatch.setenv("METTA_REASON", "likewise")
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    described = readme[readme.index("Hooks tell that") : readme.index("A message is tried five times")]
    seen: set[str] = set()
    for said in (facts(), digest_facts(), health_facts()):
        out = tmp_path / said["event"]
        deliver.deliver(Hook(command=("sh", "-c", f"env > {out}")), said, None, means_of(house))
        found = dict(line.split("=", 1) for line in out.read_text().splitlines() if line.startswith("METTA_"))
        del found["METTA_GPUS"]  # a setting of all tests
        assert ("METTA_COUNTS" in found, "METTA_REASON" in found) == (said["event"] == "group_ended", "name" in said)
        assert not [value for value in found.values() if "likewise" in value or "started the daemon" in value]
        seen |= set(found)
    assert seen == set(re.findall(r"METTA_[A-Z_]+", described))


def test_a_command_that_hangs_is_ended_with_all_that_it_started(house: House, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hook = Hook(command=("sh", "-c", f"sleep 600 & echo $! $$ > {pids}; wait"))
    with pytest.raises(Undelivered, match=r"^did not end within 1 s and was killed; see hooks.log$"):
        deliver.deliver(hook, facts(), None, means_of(house, command_timeout_s=1))
    for pid in pids.read_text().split():
        until(lambda pid=pid: _gone(int(pid)), "the end of what the hook had started")


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-program-anywhere",), "the command no-such-program-anywhere was not found: give its full path"),
        (("/",), "the command / cannot be started: Permission denied"),
        (("sh", "-c", "exit 4"), "^ended with exit code 4; its output is in hooks.log$"),
        (("sh", "-c", "kill -9 $$"), "^ended by signal 9; its output is in hooks.log$"),
    ],
)
def test_a_command_that_fails_says_how(house: House, command: tuple[str, ...], said: str) -> None:
    with pytest.raises(Undelivered, match=said):
        deliver.deliver(Hook(command=command), facts(), None, means_of(house))


def test_the_output_is_kept_and_cannot_grow_without_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    means = means_of(house)
    deliver.deliver(Hook(command=("sh", "-c", "echo hello; echo oh >&2")), facts(), None, means)
    assert means.log.read_text().endswith("sh for g/train failed after 12 min: exit code 3: delivered\nhello\noh\n")
    with pytest.raises(Undelivered, match="more than 8 MB of output"):
        deliver.deliver(Hook(command=("yes",)), facts(), None, means)
    assert means.log.stat().st_size < 50_000
    monkeypatch.setattr(deliver, "_LOG_BYTES", 20_000)
    for _ in range(5):
        deliver.deliver(Hook(command=("sh", "-c", "head -c 15000 /dev/zero | tr '\\0' x")), facts(), None, means)
    kept = [path.stat().st_size for path in house.state_dir.root.glob("hooks.log*")]
    assert len(kept) == 2 and max(kept) < 40_000


def test_a_command_may_leave_something_running(house: House, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    hook = Hook(command=("sh", "-c", f"sleep 600 & echo $! > {pid}"))
    deliver.deliver(hook, facts(), None, means_of(house))
    left = int(pid.read_text())
    assert time.monotonic() - began < 30 and not _gone(left)
    os.kill(left, signal.SIGKILL)


def test_the_desktop_is_told_by_notify_send(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Undelivered, match=r"notify-send is not installed.*libnotify-bin"):
        deliver.deliver(Hook(desktop=True), digest_facts(), None, means_of(house))
    program = tmp_path / "notify-send"
    program.write_text(f"#!/bin/sh\nfor part; do printf '%s|' \"$part\"; done > {tmp_path}/said\n")
    program.chmod(0o755)
    deliver.deliver(Hook(desktop=True), digest_facts(), None, means_of(house))
    said = (tmp_path / "said").read_text()
    assert said == "--app-name=metta|--|g: 5 of 6 succeeded, 1 failed in 1 h 03 min|high_lr (exit code 1)|"


# ---------------------------------------------------------------------------------------------------- webhooks


def post(address: str, house: House) -> str:
    with pytest.raises(Undelivered) as caught:
        deliver.deliver(Hook(webhook="TEAM"), facts(), address, means_of(house, webhook_timeout_s=0.5))
    return str(caught.value)


def test_no_error_tells_the_address(house: House, slack: Slack) -> None:
    addresses = [
        f"ftp://127.0.0.1/{SECRET}",
        f"file:///etc/{SECRET}",
        f"//127.0.0.1/{SECRET}",
        f"http://[{SECRET}",
        f"http:///{SECRET}",
        f"http://127.0.0.1:{SECRET}/",
        f"http://127.0.0.1:1/{SECRET}",
        f"https://127.0.0.1:{slack.server.server_port}/{SECRET}",
        f"http://127.0.0.1:{slack.server.server_port}/{SECRET} \r\nX: y",
        f"http://{SECRET}.invalid/",
        f"http://user:{SECRET}@127.0.0.1:1/",
        f"http://{'é' * 80}/{SECRET}",
    ]
    said = [post(address, house) for address in addresses]
    assert not [line for line in said if SECRET in line or "127.0.0.1" in line]
    assert said[0] == said[1] == "its address cannot be used: it must begin with https:// or http://"
    assert said[6] == "cannot be reached: Connection refused"
    assert "TLS" in said[7]
    assert slack.heard == []


def test_redirects_are_not_followed(house: House, slack: Slack) -> None:
    for status in (301, 302, 303, 307, 308):
        slack.answers = [status]
        slack.headers = {"Location": "/elsewhere"}
        assert f"answered {status}" in (said := post(slack.url, house)) and "redirect" in said
    slack.answers = [302]
    slack.headers = {"Location": "file:///etc/passwd"}
    assert "redirect" in post(slack.url, house)
    assert set(slack.paths) == {f"/services/{SECRET}"}


def test_a_server_that_does_not_answer_is_waited_for_only_so_long(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert post(f"http://127.0.0.1:{silent.getsockname()[1]}/", house) == "did not answer within 0.5 s"


def test_a_server_may_ask_for_a_pause(house: House, slack: Slack) -> None:
    slack.answers, slack.headers = [429], {"Retry-After": "60"}
    with pytest.raises(Undelivered, match="answered 429") as caught:
        deliver.deliver(Hook(webhook="TEAM"), facts(), slack.url, means_of(house))
    assert caught.value.wait_s == 60


def test_a_name_without_address_says_where_to_put_it(house: House) -> None:
    with pytest.raises(Undelivered, match=r"put TEAM under \[webhooks\] in ~/.config/metta-jobs/config.toml"):
        deliver.deliver(Hook(webhook="TEAM"), facts(), None, means_of(house))


def test_addresses_come_from_the_own_settings_file_only(tmp_path: Path) -> None:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "metta-jobs"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f"[webhooks]\nTEAM = 'https://example.invalid/{SECRET}'\n")
    settings = Settings.load(tmp_path)
    assert settings.webhook("TEAM") == f"https://example.invalid/{SECRET}"
    assert settings.webhook("OTHER") is None
    assert SECRET not in f"{settings!r} {settings.model_dump()}"
    (folder / "config.toml").write_text(f"[webhooks]\nTEAM = '{SECRET}'\n")
    with pytest.raises(InvalidInput, match="the address of TEAM must begin with https") as caught:
        Settings.load(tmp_path)
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    (folder / "config.toml").unlink()
    (tmp_path / "pyproject.toml").write_text("[tool.metta-jobs.webhooks]\nTEAM = 'https://example.invalid'\n")
    with pytest.raises(InvalidInput, match="addresses of webhooks are secrets"):
        Settings.load(tmp_path)
