"""`python -m metta_jobs.experiment RECIPE.FUNCTION --config-path DIR --config-name NAME`: train as a file says.

The flags are Hydra's, so that a job's command is the same whether a recipe's function or a Hydra program trains.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from metta_jobs.environment import wandb_mode
from metta_jobs.errors import InvalidInput, MettaError
from metta_jobs.experiment.hydra import fingerprint
from metta_jobs.experiment.infrastructure import FINGERPRINT_VARIABLE
from metta_jobs.experiment.program import load_training, tool_of
from metta_jobs.paths import find_project


def main(arguments: Sequence[str] | None = None) -> int:
    """Return what the recipe's tool returns; 2 when it could not be made, 1 when it raised."""
    parser = argparse.ArgumentParser(prog="python -m metta_jobs.experiment", description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE.FUNCTION", help="a function that takes a TrainingRunConfig")
    parser.add_argument("--config-path", "-cp", type=Path, default=Path(), help="folder of the file")
    parser.add_argument("--config-name", "-cn", required=True, help="its name, with or without .yaml")
    options = parser.parse_args(arguments)
    name = options.config_name if options.config_name.endswith((".yaml", ".yml")) else f"{options.config_name}.yaml"
    path = options.config_path / name
    try:
        training = load_training(path)
        meant = os.environ.get(FINGERPRINT_VARIABLE)
        if meant is not None and meant != fingerprint(path):
            raise InvalidInput(
                f"{path} is not the configuration of this job: another job on this machine has put its own there. "
                "Try the job again, or give each a machine."
            )
        os.environ.setdefault("WANDB_MODE", wandb_mode(os.environ))  # wandb must not stop to ask for a login
        os.environ.update(training.wandb_environment())
        if training.wandb_group:
            os.environ["WANDB_RUN_GROUP"] = training.wandb_group
        return tool_of(options.recipe, training, find_project()).run()
    except MettaError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001 - the recipe's own code: its author needs the traceback
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
