"""Notebooks: written by a group's last job, or now, of groups or jobs; and what their cells call."""

from metta_jobs.notebook.export import export_html
from metta_jobs.notebook.failures import failure_digest
from metta_jobs.notebook.functions import (
    create_run_summary_table,
    fetch_metrics,
    find_training_jobs,
    monitor_training_statuses,
    plot_learning_curves,
    plot_sps,
)
from metta_jobs.notebook.replays import get_available_replays, show_replay
from metta_jobs.notebook.results import GroupResults, load_group, load_jobs, results, summary
from metta_jobs.notebook.variants import VariantSummary
from metta_jobs.notebook.write import default_path, write_marimo, write_notebook

__all__ = [
    "GroupResults",
    "VariantSummary",
    "create_run_summary_table",
    "default_path",
    "export_html",
    "failure_digest",
    "fetch_metrics",
    "find_training_jobs",
    "get_available_replays",
    "load_group",
    "load_jobs",
    "monitor_training_statuses",
    "plot_learning_curves",
    "plot_sps",
    "results",
    "show_replay",
    "summary",
    "write_marimo",
    "write_notebook",
]
