.PHONY: setup fmt check test test-skypilot bench soak picture
UV ?= uv

setup:  ## everything that development needs, in .venv
	$(UV) sync

fmt:  ## format and mend what can be mended
	$(UV) run ruff format .
	$(UV) run ruff check --fix .

check:  ## style, types, architecture
	$(UV) run ruff format --check .
	$(UV) run ruff check .
	$(UV) run mypy
	$(UV) run lint-imports

test:  ## the whole test suite
	$(UV) run pytest

test-skypilot:  ## the tests that ask a real SkyPilot, on a Slurm of their own
	$(UV) run python -m tests.bed run pytest -m skypilot -n 2

bench:  ## what people wait for, measured
	$(UV) run python -m benchmarks

soak:  ## ten minutes of killing
	$(UV) run python -m tests.proof.soak

picture:  ## the pictures of the README, made by the program itself
	$(UV) run python -m tests.picture
