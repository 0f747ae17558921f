"""`python -m metta_jobs`: the same as `metta`."""

from metta_jobs.cli import main

if __name__ == "__main__":
    main()
