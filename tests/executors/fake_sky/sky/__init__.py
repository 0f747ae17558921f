"""A stand-in for SkyPilot's package: it answers from the file that FAKE_SKY names, as the file is at that moment.

The file: {"queue_v2": {"value": ..., "print": ..., "raise": [class, text], "until": path, "exit": code}, ...}. With
"until", a call hangs until that path exists. Each call is noted in the file's folder, in calls.jsonl.
"""

import builtins
import json
import os
import sys
import threading
import time
from pathlib import Path

import requests_stand_in as requests

from sky import exceptions

__version__ = "0.14.1"
_BOOK = Path(os.environ["FAKE_SKY"])
_LOCK = threading.Lock()


def answer(what, **asked):
    """Do what the file says that the call does."""
    with _LOCK, _BOOK.with_name("calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"call": what, "pid": os.getpid(), **asked}, default=str) + "\n")
    how = json.loads(_BOOK.read_text()).get(what, {})
    if "print" in how:
        print(how["print"], flush=True)
        os.system(f"echo {how['print']} from a child")
    while "until" in how and not Path(how["until"]).exists():
        time.sleep(0.01)
    if "exit" in how:
        os._exit(how["exit"])
    if "raise" in how:
        name, text = how["raise"]
        for place in (exceptions, requests, builtins):
            if hasattr(place, name):
                raise getattr(place, name)(text)
        sys.exit(text)
    return how.get("value")


class Resources:
    """Resources that are noted, or refused."""

    def __init__(self, **given):
        if given.get("infra") == "nowhere":
            raise ValueError("\x1b[31mCloud 'nowhere' is not a valid cloud\x1b[0m")
        self.given = given

    @classmethod
    def from_yaml_config(cls, config):
        """As in a task's file."""
        return cls(**config)

    def get_cost(self, seconds):
        """What the file says."""
        return answer("get_cost", seconds=seconds)


class Task:
    """A task that is noted."""

    def __init__(self, name=None, **given):
        self.given = {"name": name, **given}

    def set_resources(self, resources):
        """Note them."""
        self.given["resources"] = resources.given


def get(request_id):
    """The value of a request: of those that the calls here return, or what the file says."""
    if isinstance(request_id, tuple):
        return answer(*request_id)
    return answer("get", request_id=request_id)


answer("import")
