"""SkyPilot as somebody else uses it: run by SkyPilot's Python, with SKYPILOT_USER_ID saying who.

launch INFRA NAME…    launches jobs that sleep, and prints their managed ids
queue                 prints [id, name, status, user] of everybody's jobs
cancel ID…            cancels
All in JSON, on the last line of what it prints.
"""

from __future__ import annotations

import json
import sys

import sky
import sky.jobs


def main(verb: str, words: list[str]) -> object:
    """Do it; what to print."""
    if verb == "launch":
        requests = []
        infra, *names = words
        for name in names:
            task = sky.Task(name=name, run="sleep 3600")
            task.set_resources(sky.Resources(infra=infra, cpus=0.5))
            requests.append(sky.jobs.launch(task, name=name))
        return [sky.get(request)[0][0] for request in requests]
    if verb == "queue":
        fields = ["job_id", "job_name", "status", "user_hash"]
        records = sky.get(sky.jobs.queue_v2(refresh=False, all_users=True, fields=fields))[0]
        return [[one.job_id, one.job_name, one.status.value, one.user_hash] for one in records]
    return sky.get(sky.jobs.cancel(job_ids=[int(word) for word in words]))


if __name__ == "__main__":
    print("\n" + json.dumps(main(sys.argv[1], sys.argv[2:])))
