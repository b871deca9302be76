"""Classify pictures with an exported network: onnxruntime, NumPy and Pillow, and nothing of seenn.

seenn export snn.safetensors --to onnx --raw-pixels -o snn.onnx
python onnx_early_exit.py snn.onnx cat.png dog.png
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(model: str, *pictures: str) -> None:
    """Prints each picture's class, and after how many steps the network was sure."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    if not about["raw_pixels"]:
        raise SystemExit("export the network with --raw-pixels")
    size = about["preprocessing"]
    for picture in pictures:
        image = Image.open(picture).convert("RGB" if size["channels"] == 3 else "L")
        pixels = np.asarray(image.resize((size["width"], size["height"]))).reshape(1, size["height"], size["width"], -1)
        labels, steps, confidence, _ = session.run(None, {"images": pixels})
        label = int(labels[0])
        name = about["class_names"][label] if about["class_names"] else str(label)
        print(f"{picture}: {name} ({confidence[0]:.0%}) after {steps[0]} of {about['timesteps']} steps")


if __name__ == "__main__":
    main(*sys.argv[1:])
