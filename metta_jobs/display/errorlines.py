"""Finds, in the end of a failed program's log, the few lines that say what went wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Launchers put the rank, the process or the time before each line.
_PREFIX = re.compile(r"^(?:\[[^\]]{1,24}\]:?|\(\w+ pid=\d+[^)]*\)|rank ?\d+:) ?")
_BOX = " │┃|╭╮╰╯─━┏┓┗┛"
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):")
#: The last line of a traceback, as nearly all exceptions are named.
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b")
_FRAME = re.compile(r'^\s+File ".*", line \d+')
_ERROR = re.compile(
    r"(?i:\b(?:error|exception|fatal|panic|panicked|segmentation fault|core dumped|out of memory|killed|aborted"
    r"|assertion failed|command not found|no such file|permission denied)\b)|[a-z](?:Error|Exception)\b"
)
_CHATTER = re.compile(r"^\s*wandb: ")
_FURNITURE = re.compile(r"^[\W_]*(?:error)?[\W_]*$", re.IGNORECASE)
_BARE = re.compile(r"[\w.]+")
# A traceback that this many other lines follow was survived; what failed later says more.
_SURVIVED_AFTER = 20


def error_lines(log: Sequence[str], limit: int = 4) -> list[str]:
    """Return up to `limit` lines that say why a program failed, the most telling one first.

    `log` is the cleaned end of its output. Taken is the exception of the last traceback, with its message and the
    frame that raised it; without a traceback the last line that looks like an error and what follows it; without
    that the last words. W&B's own chatter and lines of ornaments are passed over.
    """
    spoken = _spoken(log)
    found = _exception(spoken, limit)
    if not found:
        found = [line.strip(_BOX) for line in _last_error(spoken, limit)]
    return found[:limit]


def telling_line(log: Sequence[str]) -> str | None:
    """Return in one line what went wrong, None where nothing looks like an error.

    It is the first of `error_lines`, and with it what it cannot be understood without: the fields that a validation
    refused, what follows a colon at its end, or the frame of an exception without a message.
    """
    spoken = _spoken(log)
    found = _exception(spoken, 5) or [line.strip(_BOX) for line in _last_error(spoken, 3, else_last=False)]
    if not found:
        return None
    first, more = found[0].strip(), [line.strip() for line in found[1:]]
    if _continues(found) or first.endswith(":"):
        words = [line for line in more if not line.startswith("File ")][:2]
        return " ".join([first, *words])
    if _BARE.fullmatch(first) and more:
        return f"{first} ({more[-1]})"
    return first


def _spoken(log: Sequence[str]) -> list[str]:
    spoken = [_PREFIX.sub("", line) for line in log if not _CHATTER.match(line)]
    return [line for line in spoken if not _FURNITURE.match(line)]


def _exception(spoken: Sequence[str], limit: int) -> list[str]:
    start = _last(spoken, _TRACEBACK)
    if start is None:
        return []
    end = next((at for at in range(start + 1, len(spoken)) if not spoken[at].startswith(" ")), None)
    if end is None:
        return []
    if not _RAISED.match(spoken[end]):
        # What was printed before came in between, where output and errors are two streams.
        after = range(end + 1, min(end + _SURVIVED_AFTER, len(spoken)))
        end = next((at for at in after if _RAISED.match(spoken[at])), end)
    later = _last(spoken[end + 1 :], _ERROR)
    if later is not None and later >= _SURVIVED_AFTER:
        return []
    frame = _last(spoken[start:end], _FRAME)
    where = [spoken[start + frame].strip()] if frame is not None else []
    message = list(spoken[end : end + 1])
    for line in spoken[end + 1 : end + limit - len(where)]:
        # Continuations of a message are indented or say so; whatever else the program prints later is not its error.
        if not line.startswith(" ") and not message[-1].endswith(":") and not _continues(message):
            break
        message.append(line)
    return [*message, *where]


def _continues(message: Sequence[str]) -> bool:
    """True for the many-lined messages of validation errors, whose field names stand at the left edge."""
    return "validation error" in message[0]


def _last_error(spoken: Sequence[str], limit: int, else_last: bool = True) -> Sequence[str]:
    at = _last(spoken, _ERROR)
    if at is None:
        return spoken[-limit:] if else_last else []
    return spoken[at : at + limit]


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    return next((at for at in range(len(lines) - 1, -1, -1) if pattern.search(lines[at])), None)
