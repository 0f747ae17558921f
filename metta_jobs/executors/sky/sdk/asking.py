"""The only module of ours that imports sky: each request, asked of SkyPilot's SDK. Python 3.9.

Seen with SkyPilot 0.14.1, API server and Slurm on 2 cores (all figures three times as long while tests run beside
it):
- A launch is accepted in 0.03-1 s, whatever it asks for. Too many CPUs, spot on Slurm, an infra that is not enabled:
  the job is there 6-13 s later and ends as FAILED_PRECHECKS. An illegal name: its launch request ends FAILED ("No such
  file or directory") and leaves a record PENDING, INACTIVE (watched for 30 min). Refused at once (ValueError)
  are an infra that does not exist, negative sizes and a workdir that does not exist; GPUs while the catalogue cannot
  be downloaded raise CloudError.
- `sky.get` of a launch gives (ids, handle), and printing that handle may raise.
- A queue answer takes 4-7 s, with no job at all too. Jobs that do not exist are simply not in it. `job_ids=[]` is
  none. A fresh record has submitted_at None and "-" for infra and cluster_resources; texts may hold colours.
- `tail_logs(follow=False)` of a job that does not run waits until it does. The stream begins with the words of a
  spinner that name the status: so the stream is read here, and left as soon as it says that the job does not run.
- A server that was started anew (`sky api stop`, `start`) knows none of the earlier requests. A launch that it had not
  finished left a record PENDING, INACTIVE (watched for 3 min). To cancel such a record takes 5-10 s: it is CANCELLED
  then, without end_at.
- A server that is not there: refused at once. `tail_logs` and `queue_v2` would try one that answers 503 for ten
  minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Optional

if __package__:
    from metta_jobs.executors.sky.sdk.failing import COLOUR, PASSWORD, Failed, kind_of, names_of, silence_of, words_of
    from metta_jobs.executors.sky.sdk.printed import append_log, write_log
else:
    from failing import (  # type: ignore[import-not-found, no-redef]
        COLOUR,
        PASSWORD,
        Failed,
        kind_of,
        names_of,
        silence_of,
        words_of,
    )
    from printed import append_log, write_log  # type: ignore[import-not-found, no-redef]

Fields = dict[str, Any]

_HEALTH_TIMEOUT_S = 5.0
#: A log of which nothing came for so long is given up: the job is waiting to run (again).
_LOG_SILENCE_S = 90.0
_IDS_A_QUESTION = 50
#: How far a server's clock may be from ours, in seconds; so many of its newest requests are looked through at most.
_CLOCKS_DIFFER_S = 300.0
_REQUESTS_A_PAGE = (300, 3000, 30000)
_RECORD = (
    "job_id task_id job_name status schedule_state failure_reason details submitted_at start_at end_at job_duration "
    "recovery_count last_recovered_at infra cloud region zone resources cluster_resources accelerators pool priority "
    "user_hash user_name"
).split()


def plain(value: Any) -> Any:
    """The value as JSON can hold it; what JSON does not know becomes text."""
    if hasattr(value, "value"):  # an enum
        return plain(value.value)
    if isinstance(value, str):
        return COLOUR.sub("", value)[:4000]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(inner) for inner in value]
    return str(value)


def _mark(path: str, whose: str) -> None:
    """From here on nobody can say that it was not launched: put that on disk first."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(whose)
        file.flush()
        os.fsync(file.fileno())


class Sky:
    """What can be asked. Every method takes the fields of a request and returns its value, or raises."""

    def __init__(self) -> None:
        import sky
        import sky.jobs
        from sky.client import sdk
        from sky.server import common

        self.sky, self.sdk, self.server = sky, sdk, common

    def healthy(self) -> Fields:
        """What the API server says of itself. Raises Failed("unreachable") when it does not answer, within seconds."""
        try:
            response = self.server.make_authenticated_request(
                "GET", "/api/health", retry=False, timeout=_HEALTH_TIMEOUT_S
            )
        except Exception as error:
            self._read_configuration()
            if kind_of(error, acting=False) != "unreachable":
                raise
            raise Failed("unreachable", f"SkyPilot's API server at {self._address()} {silence_of(error)}") from error
        if response.status_code >= 500:
            raise Failed("unreachable", f"SkyPilot's API server answers with status {response.status_code}")
        try:
            said = response.json()
        except ValueError:
            said = None
        return said if isinstance(said, dict) else {}

    def _address(self) -> str:
        return PASSWORD.sub(r"\1", str(self.server.get_server_url()))

    def _read_configuration(self) -> None:
        # The address may have been changed by `sky api login` since we started.
        if hasattr(self.sdk, "reload_config"):
            self.sdk.reload_config()

    def launch(self, asked: Fields) -> Fields:
        """Hand a task over; its request id. Kind "died": it is not known whether it was."""
        task_of, resources = dict(asked["task"]), dict(asked["task"].get("resources") or {})
        task_of.pop("resources", None)
        if asked.get("priority") is not None:
            resources["priority"] = asked["priority"]
        given = {name: value for name, value in task_of.items() if value not in (None, {}, "")}
        # A training needs no credentials for the API server.
        task = self.sky.Task(name=asked["name"], api_server_access=False, **given)
        # Not its constructor, which does not know "8GB+": any GPU with so much memory.
        task.set_resources(self.sky.Resources.from_yaml_config(resources))
        more = {"pool": asked["pool"]} if asked.get("pool") else {}
        if asked.get("marker"):
            _mark(asked["marker"], self._whose())
        try:
            # No job group: the daemon may itself run inside of a managed job.
            request = self.sky.jobs.launch(task, name=asked["name"], job_group=None, **more)
        except Exception as error:
            raise Failed(kind_of(error, acting=True), words_of(error)) from error
        return {"request_id": str(request)}

    def requests(self, asked: Fields) -> Fields:
        """How far requests are. The SDK's `api_status` says [] when no server process runs on this machine, so that
        one behind a forwarded port would know nothing: hence the question itself."""
        answer = {}
        ids = [str(one) for one in asked["ids"]]
        for first in range(0, len(ids), _IDS_A_QUESTION):
            chunk = ids[first : first + _IDS_A_QUESTION]
            response = self.server.make_authenticated_request(
                "GET", "/api/status", retry=False, params=[("request_ids", one) for one in chunk], timeout=(5, 50)
            )
            response.raise_for_status()
            for said in response.json():
                if isinstance(said, dict) and said.get("request_id") in chunk:
                    answer[said["request_id"]] = self._request(said)
        return answer

    def _request(self, said: Fields) -> Fields:
        status = str(said.get("status"))
        status = "RUNNING" if status == "WAITING" else status
        found: Fields = {"status": status, "job_ids": None, "error": None}
        if status not in ("SUCCEEDED", "FAILED"):
            return found
        try:
            value = self.sky.get(said["request_id"])
            ids = value[0] if isinstance(value, tuple) else value
            found["job_ids"] = [int(one) for one in ids] if isinstance(ids, (list, tuple)) else None
        except Exception as error:
            if "RequestException" in names_of(error):
                raise
            found["error"] = words_of(error)
            if status == "SUCCEEDED" and "RequestInterruptedError" in names_of(error):
                found["status"] = "FAILED"
        return found

    def _whose(self) -> str:
        """The API server that is asked, and as which of its users."""
        from sky.utils import common_utils

        return f"{self._address()} as {common_utils.get_user_hash()}"

    def launches(self, asked: Fields) -> Fields:
        """Which launches of these names the API server was asked for since then: request ids by name.

        It keeps requests for a day, and forgets them when it is started anew; "complete" where all since then were
        seen and understood.
        """
        since = datetime.fromisoformat(asked["since"]).timestamp() - _CLOCKS_DIFFER_S
        found: dict[str, list[str]] = {name: [] for name in asked["names"]}
        for limit in _REQUESTS_A_PAGE:
            response = self.server.make_authenticated_request(
                "GET", "/api/status", retry=False, params={"all_status": "true", "limit": limit}, timeout=(5, 80)
            )
            response.raise_for_status()
            said = [one for one in response.json() if isinstance(one, dict)]
            if len(said) < limit or any((one.get("created_at") or since) < since for one in said):
                break
        else:
            return {"requests": found, "complete": False, "whose": self._whose()}
        understood = True
        for one in said:
            if not str(one.get("name")).endswith("jobs.launch") or (one.get("created_at") or since) < since:
                continue
            try:
                name = json.loads(one["request_body"])["name"]
            except (KeyError, TypeError, ValueError):  # of another user, or of a later SkyPilot
                understood = False
                continue
            if name in found:
                found[name].append(str(one["request_id"]))
        return {"requests": found, "complete": understood, "whose": self._whose()}

    def queue(self, asked: Fields) -> Fields:
        """Our own jobs, those of `job_ids` or all: one plain record a task, each field nullable."""
        choice = {
            name: asked[name] for name in ("job_ids", "name_match", "skip_finished") if asked.get(name) is not None
        }
        try:
            said = self.sky.get(self.sky.jobs.queue_v2(refresh=False, all_users=False, fields=_RECORD, **choice))
        except Exception as error:
            if "ClusterNotUpError" not in names_of(error):
                raise
            return self._no_controller(error, choice)
        records, bad = [], 0
        for one in said[0]:
            try:
                record = {name: plain(one.get(name)) for name in _RECORD}
                if not isinstance(record["job_id"], int):
                    raise ValueError("it has no job id")
                records.append(record)
            except Exception as error:  # noqa: BLE001 - one that cannot be read spoils none
                print(f"A record of the queue cannot be read: {words_of(error)}", file=sys.stderr)
                bad += 1
        # The server counts jobs, of which one may have several records.
        all_there = bad == 0 and (not isinstance(said[1], int) or len(records) >= said[1])
        return {"records": records, "complete": all_there, "bad": bad}

    def _no_controller(self, error: Exception, choice: Fields) -> Fields:
        """The machine that remembers the jobs is not up. Where there never was one, there are no jobs; one that went to
        sleep after its last job is woken when somebody asks for certain jobs, and answers later."""
        if getattr(error, "cluster_status", None) is None and not choice.get("job_ids"):
            return {"records": [], "complete": True, "bad": 0}
        if getattr(error, "cluster_status", None) is not None and choice.get("job_ids"):
            self.sky.jobs.queue_v2(refresh=True, all_users=False, fields=["job_id"], job_ids=choice["job_ids"])
        raise Failed("error", f"SkyPilot's jobs controller is not up: {words_of(error)}")

    def cancel(self, asked: Fields) -> Fields:
        """Have jobs cancelled; returns when the server has noted it, which is before they are gone."""
        self.sky.get(self.sky.jobs.cancel(job_ids=[int(one) for one in asked["job_ids"]]))
        return {}

    def log(self, asked: Fields) -> Fields:
        """Write what a job printed to `path`; 0 bytes, and no file is touched, when it does not run (yet, or again)."""
        with self._log_stream(asked, follow=False) as lines:
            return {"bytes": write_log(lines, asked["path"])}

    def follow(self, asked: Fields) -> Fields:
        """Add what a job prints to `path` as it does so, from its beginning (or the last `tail` lines) to its end."""
        with self._log_stream(asked, follow=True) as lines:
            return {"bytes": append_log(lines, asked["path"])}

    @contextlib.contextmanager
    def _log_stream(self, asked: Fields, follow: bool) -> Iterator[Iterator[Optional[str]]]:
        from sky.server.requests import payloads
        from sky.utils import rich_utils

        body = payloads.JobsLogsBody(job_id=int(asked["job_id"]), follow=follow, tail=asked.get("tail"))
        self.server.check_server_healthy()  # which tells this thread what the server understands
        response = self.server.make_authenticated_request(
            "POST", "/jobs/logs", json=json.loads(body.model_dump_json()), stream=True, timeout=(5, _LOG_SILENCE_S)
        )
        try:
            self.server.get_request_id(response)
            yield rich_utils.decode_rich_status(response, relay_rich_status=True)
        finally:
            response.close()  # a stream that is left ends on the server too

    def check(self, asked: Fields) -> Fields:
        """Versions, the API server's address and health, and the infras that are enabled."""
        self._read_configuration()
        said = self.healthy()
        enabled = self.sky.get(self.sdk.enabled_clouds())
        return {
            "version": self.sky.__version__,
            "server_version": said.get("version"),
            "endpoint": self._address(),
            "healthy": said.get("status") == "healthy",
            "enabled": sorted(str(one).lower() for one in enabled or ()),
        }

    def price(self, asked: Fields) -> Fields:
        """US dollars an hour; None where SkyPilot knows no price, as on Slurm and Kubernetes."""
        try:
            return {"hourly_usd": plain(float(self.sky.Resources(**asked["resources"]).get_cost(3600)))}
        except (AssertionError, NotImplementedError):  # not one machine type, or no prices for this infra
            return {"hourly_usd": None}
        except Exception as error:  # the catalogue of prices could not be downloaded: nothing to do with the API server
            raise Failed("error", words_of(error)) from error
