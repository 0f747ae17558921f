"""Managed jobs: what is asked becomes the request's id, and is answered by `sky.get`."""

import sky


def launch(task, name=None, **asked):
    """Note the task; the request id is what the file says."""
    return sky.answer("launch", task=task.given, name=name, **asked)


def queue_v2(refresh, **asked):
    """The queue, when it is got."""
    sky.answer("queue_v2 asked", refresh=refresh, **asked)
    return ("queue_v2",)


def cancel(**asked):
    """Cancelled, when it is got."""
    sky.answer("cancel asked", **asked)
    return ("cancel",)
