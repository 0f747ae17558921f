"""MettaGrid's arena with altars that hold hearts."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from recipes.ppo.config import ArenaConfig
from recipes.ppo.requirements import require

if TYPE_CHECKING:
    from mettagrid.config.mettagrid_config import MettaGridConfig


def load(module: str) -> Any:
    """Import a module of mettagrid; raise MissingExtra when the package is not installed."""
    require("mettagrid")
    # The package sets up the root logger when it is imported; at INFO, every library's chatter would reach the log.
    os.environ.setdefault("METTAGRID_LOG_LEVEL", "WARNING")
    return importlib.import_module(module)


def arena_game(env: ArenaConfig) -> MettaGridConfig:
    """Return MettaGrid's config of one arena of `env`, without a map seed."""
    envs = load("mettagrid.builder.envs")
    config = load("mettagrid.config.mettagrid_config")
    handlers = load("mettagrid.config.handler_config")
    game: MettaGridConfig = envs.make_arena(num_agents=env.num_agents)
    game.game.max_steps = env.max_steps
    game.game.objects["altar"] = config.GridObjectConfig(
        name="altar",
        inventory=config.InventoryConfig(initial={"heart": env.hearts_per_altar}),
        on_use_handler=handlers.Handler(mutations=[handlers.withdraw({"heart": 1})]),
    )
    scene: Any = game.game.map_builder
    scene.instance.objects["altar"] = env.num_altars
    return game
