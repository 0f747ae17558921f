"""From MettaGrid's token observations to vectors that a network digests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EMPTY = 0xFF
_GLOBAL = 0xFE
#: The planes of the image, in order; the first three say what stands in a cell.
PLANES = ("type:wall", "type:altar", "type:agent", "hearts")
#: Hearts beyond this many look alike.
_HEARTS_SCALE = 10.0


class TokenEncoder:
    """Turns tokens [B, T, 3] (uint8: packed place, feature, value) into float32 [B, D].

    D = rows × columns × planes of the agent's window (the agent in its middle), then the share of the episode that has
    passed, the agent's own hearts, and the last action one-hot. All values lie within 0 and 1, but for own hearts,
    which may exceed 1. MettaGrid's last_reward is left out: in 0.26.22 it is 0 even after a reward.
    """

    def __init__(self, game: Any, action_names: list[str]) -> None:
        """Read the window's size and the numbers of features and tags from MettaGrid's `game` config."""
        ids = game.id_map()
        self._rows, self._columns = game.obs.height, game.obs.width
        self._num_actions = len(action_names)
        self._tag, self._heart = ids.feature_id("tag"), ids.feature_id("inv:heart")
        self._completed = ids.feature_id("episode_completion_pct")
        self._last_action = ids.feature_id("last_action")
        self._plane_of_tag = np.full(256, -1, dtype=np.int64)
        for tag, name in enumerate(ids.tag_names()):
            if name in PLANES:
                self._plane_of_tag[tag] = PLANES.index(name)
        cells = self._rows * self._columns
        self._centre = (self._rows // 2) * self._columns + self._columns // 2
        self._cell_of_place = np.full(256, -1, dtype=np.int64)
        for place in range(_GLOBAL):
            row, column = place >> 4, place & 0xF
            if row < self._rows and column < self._columns:
                self._cell_of_place[place] = row * self._columns + column
        self._scalars = cells * len(PLANES)
        self.size = self._scalars + 2 + self._num_actions

    def encode(self, tokens: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode [B, T, 3] tokens; returns a fresh [B, size] array."""
        out = np.zeros((len(tokens), self.size), dtype=np.float32)
        agent, slot = np.nonzero(tokens[:, :, 0] != _EMPTY)
        place, feature, value = tokens[agent, slot].T
        cell = self._cell_of_place[place]

        tags = (feature == self._tag) & (cell >= 0)
        plane = self._plane_of_tag[value[tags]]
        known = plane >= 0
        out[agent[tags][known], cell[tags][known] * len(PLANES) + plane[known]] = 1.0
        # The agent itself is always in the middle: that says nothing.
        out[:, self._centre * len(PLANES) : (self._centre + 1) * len(PLANES)] = 0.0

        hearts = (feature == self._heart) & (cell >= 0)
        own = hearts & (cell == self._centre)
        others = hearts & ~own
        held = np.minimum(value[others] / _HEARTS_SCALE, 1.0)
        out[agent[others], cell[others] * len(PLANES) + PLANES.index("hearts")] = held
        out[agent[own], self._scalars + 1] = value[own] / _HEARTS_SCALE

        everywhere = place == _GLOBAL
        completed = everywhere & (feature == self._completed)
        out[agent[completed], self._scalars] = value[completed] / 255.0
        acted = everywhere & (feature == self._last_action) & (value < self._num_actions)
        out[agent[acted], self._scalars + 2 + value[acted].astype(np.int64)] = 1.0
        return out
