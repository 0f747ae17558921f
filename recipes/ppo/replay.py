"""One MettaScope replay of the arena."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from recipes.ppo.arena_game import load
from recipes.ppo.config import ArenaConfig
from recipes.ppo.folder import RunFolder
from recipes.ppo.play import Player
from recipes.ppo.vec_arena import VecArena


def write_replay(player: Player, env: ArenaConfig, seed: int, folder: RunFolder) -> Path:
    """Play one episode of one arena and write replays/final.json.z; returns its path."""
    writer_module = load("mettagrid.simulator.replay_log_writer")
    with tempfile.TemporaryDirectory() as scratch:
        writer = writer_module.ReplayLogWriter(scratch)
        arena = VecArena(env.model_copy(update={"num_arenas": 1}), seed, event_handlers=[writer])
        observations: Any = arena.reset()
        while not writer.get_written_replay_paths():
            actions, _ = player.predict(observations)
            observations, _, _, _ = arena.step(actions)
        arena.close()
        [written] = writer.get_written_replay_paths()
        content = Path(written).read_bytes()
    return folder.add("replays/final.json.z", lambda part: part.write_bytes(content))
