"""Notebooks of groups: written by a job at the end, run again at will, and what their cells call."""

from metta_jobs.notebook.results import GroupResults, load_group, results, summary
from metta_jobs.notebook.variants import VariantSummary
from metta_jobs.notebook.write import default_path, write_notebook

__all__ = ["GroupResults", "VariantSummary", "default_path", "load_group", "results", "summary", "write_notebook"]
