"""Made the event files beside this one, once, with the real TensorBoard (2.21): `python make_tfevents.py FOLDER`.

`v1` holds simple values, as torch's SummaryWriter writes them, `v2` tensor scalars, as TensorFlow 2 does; between them
stand tensors that are no scalars.
"""

import math
import sys
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

folder = Path(sys.argv[1])
for name in ("v1", "v2"):
    writer = EventFileWriter(str(folder / name))
    for i in range(200):
        loss = math.nan if i == 7 else 1 / (i + 1)
        values = {"rollout/ep_rew_mean": i / 4, "time/fps": 1000.0 + i, "train/loss": loss}
        summaries = []
        for tag, value in values.items():
            if name == "v1":
                summaries.append(Summary.Value(tag=tag, simple_value=value))
            else:
                summaries.append(Summary.Value(tag=tag, tensor=make_tensor_proto(np.float32(value))))
        if i % 50 == 0:
            summaries.append(Summary.Value(tag="weights", tensor=make_tensor_proto(np.arange(9.0).reshape(3, 3))))
            summaries.append(Summary.Value(tag="note", tensor=make_tensor_proto("no number")))
        for summary in summaries:
            writer.add_event(Event(wall_time=1.75e9 + i, step=2048 * (i + 1), summary=Summary(value=[summary])))
    writer.close()
