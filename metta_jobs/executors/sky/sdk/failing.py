"""What an exception out of SkyPilot's SDK means for the one who asked. Standard library only, Python 3.9."""

from __future__ import annotations

import re
from collections.abc import Iterator

COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
PASSWORD = re.compile(r"(://)[^/@\s]+@")

# Kinds are told by names along the classes of an exception, so that no internals of sky are imported for them.
_UNREACHABLE = {
    "ApiServerConnectionError", "ServerTemporarilyUnavailableError", "RequestInterruptedError", "RequestException",
    "ConnectionError", "TimeoutError",
}  # fmt: skip
_NEVER_SENT = {
    "NewConnectionError", "ConnectTimeoutError", "ConnectTimeout", "NameResolutionError", "ConnectionRefusedError",
    "SSLError", "ProxyError",
}  # fmt: skip
_REFUSED = {
    "ValueError", "TypeError", "UsageError", "NotSupportedError", "APINotSupportedError", "ResourcesMismatchError",
    "ResourcesUnavailableError", "ProvisionUnsupportedError", "InvalidClusterNameError", "UserRequestRejectedByPolicy",
    "PermissionDeniedError", "PoolDoesNotExistError", "VolumeNotFoundError", "NotADirectoryError", "FileNotFoundError",
    "StorageSourceError", "StorageNameError", "StorageModeError",
}  # fmt: skip


class Failed(Exception):
    """A request that failed, with the kind of its error."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def names_of(error: BaseException) -> set[str]:
    """The names of its class and of all that it descends from."""
    return {kind.__name__ for kind in type(error).__mro__}


def _family(error: object, depth: int = 6) -> Iterator[BaseException]:
    """The error and what it was made from: requests hides the first cause in arguments and reasons."""
    if isinstance(error, BaseException) and depth:
        yield error
        for inner in (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__):
            yield from _family(inner, depth - 1)


def _status_code(error: BaseException) -> int | None:
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def kind_of(error: BaseException, *, acting: bool) -> str:
    """The kind of an exception that came out of the SDK; `acting`: out of a launch that may have been sent."""
    if isinstance(error, Failed):
        return error.kind
    names, code = names_of(error), _status_code(error)
    if "starting a local API server" in str(error):  # it went away between the question for its health and this one
        return "unreachable"
    if acting and "ApiServerConnectionError" not in names:
        if code is not None and code >= 500:
            return "died"
        lost = names & _UNREACHABLE and code is None
        if lost and not any(names_of(inner) & _NEVER_SENT for inner in _family(error)):
            return "died"
        if type(error) is RuntimeError:  # how the SDK says that it does not understand the server's answer
            return "died"
    if names & _UNREACHABLE:
        return "unreachable" if code is None or code >= 500 else "error"
    if "JSONDecodeError" in names:
        return "error"
    return "refused" if names & _REFUSED else "error"


def silence_of(error: BaseException) -> str:
    """How the API server did not answer, as the end of a sentence."""
    names = set().union(*(names_of(inner) for inner in _family(error)))
    if "NameResolutionError" in names:
        return "has a name that is not known"
    if names & {"NewConnectionError", "ConnectionRefusedError"}:
        return "refuses the connection"
    if names & {"Timeout", "TimeoutError"}:
        return "does not answer"
    return f"does not answer: {words_of(error)}"


def words_of(error: BaseException) -> str:
    """An exception in one short text, without colours and passwords."""
    text = COLOUR.sub("", str(error)).strip() or type(error).__name__
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        text = f"{type(error).__name__}: {text}"
    return PASSWORD.sub(r"\1", text)[:4000]
