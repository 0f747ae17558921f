"""Metrics from W&B's server: asked in a process of its own, within a budget, remembered."""
