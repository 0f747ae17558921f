"""Some of SkyPilot's exceptions."""


class ApiServerConnectionError(RuntimeError):
    """The API server cannot be reached."""


class ServerTemporarilyUnavailableError(Exception):
    """It answers 503."""


class RequestInterruptedError(Exception):
    """It was started anew in the middle of a request."""


class NotSupportedError(Exception):
    """A feature that an infra does not have."""


class ClusterNotUpError(Exception):
    """The jobs controller is not up."""

    cluster_status = None


class Asleep(ClusterNotUpError):
    """It sleeps."""

    cluster_status = "STOPPED"
