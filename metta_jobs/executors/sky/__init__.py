"""Attempts that run through SkyPilot, on any cloud, Kubernetes or Slurm."""
