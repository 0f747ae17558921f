"""What the SDK has besides jobs."""


def enabled_clouds():
    """The infras, when they are got."""
    return ("enabled_clouds",)


def reload_config():
    """Nothing to read."""
