"""ONNX import against onnxruntime: ten families as torch exports them, both ways, and onnx's nine light graphs.

    python benchmarks/onnx_exports.py

Weights are random. Every import is compared with onnxruntime on random images by ``import_onnx`` itself, which
refuses a difference above the bar; here it is measured, with the exported module as a second witness.

The bar holds for models as they are initialised, and where these hardly look at the image, so that agreement would
prove little, for models whose batch statistics are set from random images. That is done with all models, for
information: with activations of unit variance everywhere, some random networks amplify the rounding of float32
itself beyond the bar, and ``import_onnx`` holds them to a few times their own rounding.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import click
import onnx
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS
from onnx_light import LARGE, SMALL, reweighted

from converter import canonical_graph
from converter.load import ModelSpec, build_model
from converter.onnx_import import ImportedModel, import_onnx
from converter.onnx_import.verify import TOLERANCE
from seenn.errors import ConversionError, SeennError

#: Models and image sizes: small where the network allows it.
MODELS = {
    "resnet18": 64,
    "vgg11_bn": 224,  # TorchScript cannot export its pooling at other sizes
    "densenet121": 64,
    "mobilenetv2_100": 64,
    "regnetx_002": 64,
    "repvgg_a0": 64,
    "hrnet_w18_small": 64,
    "torchvision:shufflenet_v2_x1_0": 64,
    "ghostnet_100": 64,
    "inception_v3": 107,
}
COMMAND = "python benchmarks/onnx_exports.py"


def export(model: nn.Module, images: torch.Tensor, path: Path, *, dynamo: bool) -> None:
    """``torch.onnx.export`` with a free batch, by TorchScript or by ``torch.export``."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(model, (images,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
            torch.onnx.export(model, (images,), path, dynamo=False, **names)


def keep_alive(model: nn.Module, images: torch.Tensor) -> None:
    """Sets the statistics of batch normalisation from ``images``, so that no activation dies out or explodes."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the average over the images
        norm.train()
    with torch.no_grad():
        model(images)
    model.eval()


def export_rows(name: str, size: int, folder: Path) -> tuple[list[Row], list[str]]:
    """Both exports of one model as it is initialised, and again with the statistics of random images."""
    torch.manual_seed(0)
    model = build_model(ModelSpec(name=name, num_classes=10)).module
    many = torch.randn(16, 3, size, size)
    plain, notes, telling = _both(model, many[:2], f"{name}, {size}×{size}", folder, binding=True)
    keep_alive(model, many)
    title = f"{name}, {size}×{size}, statistics set"
    alive, more, _ = _both(model, many[:2], title, folder, binding=not telling)
    return (plain if telling else []) + alive, notes + more


def _both(
    model: nn.Module, images: torch.Tensor, title: str, folder: Path, *, binding: bool
) -> tuple[list[Row], list[str], bool]:
    """Rows (with the bar where ``binding``), notes, and whether agreement tells anything."""
    rows, notes, telling = [], [], True
    path = folder / "net.onnx"
    with torch.no_grad():
        expected = model(images)
    for dynamo in (False, True):
        export(model, images, path, dynamo=dynamo)
        what = f"{title}, dynamo={dynamo}"
        try:
            imported = import_onnx(path)
        except ConversionError as error:
            difference = float(str(error).partition("onnxruntime by ")[2].split()[0])
            notes.append(f"{what}: refused, {str(error).partition(': ')[2]}.")
        else:
            difference = imported.difference
            telling &= not any("says little" in note for note in imported.notes)
            with torch.no_grad():
                witness = _relative(imported.module(images) - expected, expected)
            notes.append(
                f"{what}: opset {imported.opset}; {witness:.1e} from the module itself, on two images whose logits "
                f"differ by {_relative(expected[0] - expected[1], expected):.1e} of the largest; {_fate(imported)}."
            )
        name = f"{what}: largest relative difference"
        rows.append(
            Row.at_most(name, difference, TOLERANCE, COMMAND) if binding else Row(name, difference, None, True, COMMAND)
        )
        click.echo(f"{difference:.1e} {notes[-1]}", err=True)
    return rows, notes, telling


def _relative(difference: torch.Tensor, to: torch.Tensor) -> float:
    return float(difference.abs().max() / to.abs().max())


def light_row(name: str, folder: Path) -> tuple[Row, str]:
    """One light graph."""
    path = folder / "light.onnx"
    onnx.save(reweighted(name), path)
    imported = import_onnx(path)
    note = f"light_{name}: opset {imported.opset}, IR {imported.ir_version}; {_fate(imported)}."
    click.echo(f"{note} {imported.difference:.1e}", err=True)
    title = f"light_{name}, random weights: largest relative difference"
    return Row.at_most(title, imported.difference, TOLERANCE, COMMAND), note


def _fate(imported: ImportedModel) -> str:
    """What conversion says to the imported graph."""
    try:
        canonical_graph(imported.module, torch.randn(2, *imported.input_shape))
    except SeennError as error:
        return f"imported, conversion refuses it: {str(error).splitlines()[0].rstrip(':')}"
    return "its graph can be converted"


@click.command()
@click.option("--only", multiple=True, help="Names of models or light graphs; all when not given.")
@click.option("--out", default=str(RESULTS / "onnx_exports"), show_default=True, help="Stem of the result files.")
def main(only: tuple[str, ...], out: str) -> None:
    """Measure every import."""
    logging.disable(logging.WARNING)  # the exporters'
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in MODELS.items():
            if not only or name in only:
                more_rows, more_notes = export_rows(name, size, Path(folder))
                rows += more_rows
                notes += more_notes
        for name in (*SMALL, *LARGE):
            if not only or name in only:
                row, note = light_row(name, Path(folder))
                rows.append(row)
                notes.append(note)
    write_results(out, "ONNX import against onnxruntime", rows, notes=["\n".join(f"- {note}" for note in notes)])
    if not all(row.ok for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
