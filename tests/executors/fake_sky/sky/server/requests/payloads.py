"""The one body that is needed."""

import json


class JobsLogsBody:
    """What of a log is asked."""

    def __init__(self, **given):
        self.given = given

    def model_dump_json(self):
        """As JSON."""
        return json.dumps(self.given)
