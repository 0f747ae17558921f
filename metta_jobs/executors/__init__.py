"""Where attempts run. Every executor keeps the promises of `base.Executor`."""
