"""Notebooks of groups: written by a job at the end, run again at will, and what their cells call."""

from metta_jobs.notebook.results import GroupResults, load_group
from metta_jobs.notebook.write import default_path, write_notebook

__all__ = ["GroupResults", "default_path", "load_group", "write_notebook"]
