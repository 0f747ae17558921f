"""What runs inside of the worker, by an interpreter that has SkyPilot. None of it imports metta_jobs in there."""
