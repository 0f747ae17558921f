"""Benchmarks of optimisers: `python -m metta_jobs.optimizer.bench`."""
