"""The code that a remote job runs: frozen as it is, or named by its commit."""
