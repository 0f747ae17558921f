"""Requests to the API server by hand."""

import sky


class Response:
    """What the file says for the path: {"value": json, "status": 200}."""

    status_code = 200

    def __init__(self, said):
        self.said = said
        self.lines = said if isinstance(said, list) else []

    def json(self):
        """The answer."""
        return self.said

    def raise_for_status(self):
        """All is well."""

    def close(self):
        """Note that the stream was left."""
        sky.answer("closed")


def get_server_url():
    """An address with a password in it."""
    return "http://me:secret@127.0.0.1:46580"


def check_server_healthy():
    """It is."""


def get_request_id(response):
    """The response was good."""


def make_authenticated_request(method, path, **asked):
    """Answer for the path."""
    said = sky.answer(path, **{name: asked[name] for name in ("params", "json") if name in asked})
    return Response({"status": "healthy", "version": "0.14.0"} if said is None and path == "/api/health" else said)
