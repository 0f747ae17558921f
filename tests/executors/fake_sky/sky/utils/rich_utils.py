"""Streams."""

import time


def decode_rich_status(response, relay_rich_status):
    """The lines of a stream; "hang" is one that never comes."""
    for line in response.lines:
        while line == "hang":
            time.sleep(0.01)
        yield line
