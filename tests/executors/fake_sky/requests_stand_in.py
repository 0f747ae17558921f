"""Exceptions as the library requests raises them."""


class RequestException(OSError):
    """All of them."""


class NewConnectionError(Exception):
    """Nobody listens there."""


class ConnectionReset(RequestException):
    """It was sent, and then nothing came."""


class ConnectionRefused(RequestException):
    """It could not be sent."""

    def __init__(self, text):
        super().__init__(NewConnectionError(text))
