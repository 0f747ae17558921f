"""Made the event files beside this one, once, by the real TensorBoard (2.21): `python make_tfevents.py FOLDER`.

`v1` holds simple values as torch's SummaryWriter writes them, `v2` tensor scalars as TensorFlow 2 does, with a histogram
and a text between, which are no scalars.
"""

import sys
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram import summary as histograms
from tensorboard.plugins.scalar import summary as scalars
from tensorboard.plugins.text import summary as texts
from tensorboard.summary.writer.event_file_writer import EventFileWriter

folder = Path(sys.argv[1])
for name in ("v1", "v2"):
    writer = EventFileWriter(str(folder / name))
    for i in range(200):
        values = {
            "rollout/ep_rew_mean": i / 4,
            "time/fps": 1000.0 + i,
            "train/loss": float("nan") if i == 7 else 1 / (i + 1),
        }
        for tag, value in values.items():
            if name == "v1":
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            else:
                summary = scalars.pb(tag, value)
            writer.add_event(Event(wall_time=1.75e9 + i, step=2048 * (i + 1), summary=summary))
        if i % 50 == 0:
            for other in (histograms.pb("weights", np.arange(9.0)), texts.pb("note", "no number")):
                writer.add_event(Event(wall_time=1.75e9 + i, step=2048 * (i + 1), summary=other))
    writer.close()
