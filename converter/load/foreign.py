"""Files of other programs, told by their names, and how each becomes one that can be read."""

from __future__ import annotations

from pathlib import Path, PurePath

_ONNX = "export it to ONNX and pass the file with --model: "
_TF2ONNX = f"{_ONNX}python -m tf2onnx.convert"

_ADVICE = {
    ".h5": f"a Keras file; {_TF2ONNX} --keras FILE --output net.onnx",
    ".hdf5": f"a Keras file; {_TF2ONNX} --keras FILE --output net.onnx",
    ".keras": f"a Keras file; {_ONNX}model.export('net.onnx', format='onnx')",
    ".tflite": f"a TensorFlow Lite file; {_TF2ONNX} --tflite FILE --output net.onnx",
    ".pb": f"a TensorFlow graph; {_TF2ONNX} --saved-model FOLDER --output net.onnx",
    ".pdparams": f"weights of PaddlePaddle; {_ONNX}paddle.onnx.export(model, 'net', input_spec=…)",
    ".pdmodel": f"a model of PaddlePaddle; {_ONNX}paddle2onnx --model_dir FOLDER --save_file net.onnx",
    ".mlmodel": f"a Core ML file; {_ONNX}from the program that made it",
    ".mlpackage": f"a Core ML package; {_ONNX}from the program that made it",
    ".xml": "a model of OpenVINO, which nothing turns back (ovc goes one way): pass what it was made of, as ONNX, with "
    "--model",
    ".py": "Python code; name the function or class in it that makes the model, as in --model net:Net for net.py",
    ".engine": f"a TensorRT engine, which holds no weights to read; {_ONNX}from the program that made it",
    ".msgpack": "weights of Flax; load them into a torch module and save its state_dict()",
    ".onnx": "an ONNX file holds its own layers: pass it with --model, without --ckpt",
}
_WEIGHTS = frozenset((".bin", ".ckpt", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".tar"))


def advice(suffix: str) -> str | None:
    """What a file with this ending is and what to do with it; None where the ending says nothing."""
    return _ADVICE.get(suffix.lower())


def no_model(name: str) -> str | None:
    """Why a file cannot be the model, and what to do; None for names and for files that can."""
    suffix = "" if ":" in name else PurePath(name).suffix.lower()
    if suffix in _WEIGHTS:
        return (
            f"{name} holds weights, not layers: name the architecture with --model and pass the file with --ckpt; "
            "TorchScript: torch.onnx.export makes a model of it"
        )
    return f"{name}: {_ADVICE[suffix]}" if suffix in _ADVICE and suffix != ".onnx" else None


def no_model_at(path: Path) -> str | None:
    """What a file or folder is that is there and no model, and what to do; None where nothing is there."""
    if path.is_file():
        if path.stat().st_size == 0:
            return f"{path}: the file is empty; copy it again"
        return (
            f"{path}: a file of no kind that holds layers: expected an .onnx file; weights go with --ckpt, beside the "
            "name of their architecture with --model"
        )
    if not path.is_dir():
        return None
    files = sorted(found.name for found in path.iterdir())
    if "saved_model.pb" in files:
        return f"{path}: a SavedModel of TensorFlow; {_TF2ONNX} --saved-model {path} --output net.onnx"
    if models := [name for name in files if name.lower().endswith(".onnx")]:
        return f"{path}: a folder; name the file in it: --model {path / models[0]}"
    if "config.json" in files:
        return f"{path}: a folder of a model; where timm made it, --model local-dir:{path}"
    listed = ", ".join(files[:4]) + ", …" * (len(files) > 4) or "nothing"
    return (
        f"{path}: a folder with {listed}; expected an .onnx file; weights go with --ckpt, beside the name of their "
        "architecture with --model"
    )
