"""What an image classifier never exceeds, and a damaged or hostile file might."""

from __future__ import annotations

MIN_IR, MIN_OPSET = 3, 7
MAX_FILE_BYTES = (1 << 31) - 1  # protobuf's own limit; onnxruntime takes the model in one such piece
MAX_NODES = 100_000
MAX_VALUES = 1 << 26  # of one intermediate result, per image
MAX_FOLDED = 1 << 28  # values of all folded constants together
MAX_WORK = 1 << 32  # multiply-adds, or elements read and written, of all folded constants together: seconds
MAX_BATCH = 4096  # baked into the graph
MAX_SETTINGS = 1024  # numbers that say how an op works: pads, axes, sizes
