"""What people wait for, measured: `make bench`. benchmarks/README.md says what is measured how."""
