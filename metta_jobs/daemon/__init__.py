"""The one writer of states: it starts jobs, watches them, and records how they ended."""
