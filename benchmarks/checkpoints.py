"""Checkpoints as the usual programs write them, each written by its library: whether they are read, and exactly.

    pip install lightning transformers accelerate fastai
    python benchmarks/checkpoints.py -o benchmarks/results/checkpoints

The layouts of mmpretrain and of torch's sharded checkpoints are written by hand and by torch. A library that is not
installed is a row that is not ok.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

import timm
import torch
from bars import Row, write_results
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from converter.load import ModelSpec, load_model
from seenn.errors import CheckpointError

WIDTHS = {"channels": (8, 8, 8, 8), "stem_width": 8, "layers": (1, 1, 1, 1)}
SETTINGS = argparse.Namespace(lr=0.1)
COMMAND = "python benchmarks/checkpoints.py"
Written = dict[str, tuple[Path, nn.Module | None]]  # None: to be refused with the line that saves the weights


def network() -> nn.Module:
    """A narrow ResNet of timm."""
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=5, **WIDTHS)


def data() -> TensorDataset:
    """Noise, enough for a step or two."""
    return TensorDataset(torch.randn(16, 3, 32, 32), torch.randint(0, 5, (16,)))


def lightning(folder: Path) -> Written:
    """A module with a weighted loss and hyperparameters of several types, and one with averaged weights."""
    import lightning as L
    from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

    class Module(L.LightningModule):
        def __init__(self, out: Path = Path("runs"), more: Any = SETTINGS) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model, self.criterion = network(), nn.CrossEntropyLoss(weight=torch.ones(5))

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.criterion(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)

    module = Module()
    options = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = L.Trainer(**options, enable_checkpointing=False)
    trainer.fit(module, DataLoader(data(), 8))
    trainer.save_checkpoint(folder / "plain.ckpt")
    averaging = [EMAWeightAveraging(decay=0.5), ModelCheckpoint(folder, filename="averaged")]
    averaged = Module()
    L.Trainer(**options, callbacks=averaging, default_root_dir=folder).fit(averaged, DataLoader(data(), 8))
    return {
        "Lightning": (folder / "plain.ckpt", module.model),
        "Lightning, averaged weights beside": (folder / "averaged.ckpt", None),
    }


def timm_(folder: Path) -> Written:
    """timm's ``CheckpointSaver`` with averages and its arguments, and a folder for the hub."""
    from timm.models import save_for_hf
    from timm.utils import CheckpointSaver, ModelEmaV3

    model = network()
    average = ModelEmaV3(model, decay=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    average.update(model)
    arguments = argparse.Namespace(model="resnet18", lr=0.1, data_dir=folder)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    where = {"checkpoint_dir": str(folder), "recovery_dir": str(folder)}
    CheckpointSaver(model, optimizer, args=arguments, model_ema=average, **where).save_checkpoint(1, 50.0)
    save_for_hf(model, folder / "hub")
    return {"timm": (folder / "model_best.pth.tar", model), "timm, folder for the hub": (folder / "hub", model)}


def torchvision_references(folder: Path) -> Written:
    """As ``references/classification/train.py`` writes them, by its lines."""
    model = network()
    checkpoint = {
        "model": model.state_dict(), "optimizer": torch.optim.SGD(model.parameters(), 0.1).state_dict(),
        "lr_scheduler": {"step_size": 30}, "epoch": 1, "args": argparse.Namespace(device="cpu", weights=None),
        "model_ema": AveragedModel(model, use_buffers=True).state_dict(), "scaler": {},
    }  # fmt: skip
    torch.save(checkpoint, folder / "model_1.pth")
    return {"torchvision references": (folder / "model_1.pth", model)}


def transformers(folder: Path) -> Written:
    """HF Trainer around a module of one's own; timm's wrapper, whole and in shards."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, Trainer, TrainingArguments

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.net(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    model, samples = Net(), [{"x": image, "labels": label} for image, label in data()]
    options = {"max_steps": 2, "save_steps": 2, "report_to": [], "use_cpu": True, "remove_unused_columns": False}
    Trainer(model, TrainingArguments(str(folder), disable_tqdm=True, **options), train_dataset=samples).train()
    config = TimmWrapperConfig(architecture="resnet18", model_args=dict(WIDTHS), num_labels=5)
    wrapper = TimmWrapperForImageClassification(config)
    wrapper.save_pretrained(folder / "whole")
    wrapper.save_pretrained(folder / "shards", max_shard_size="20KB")
    return {
        "HF Trainer": (folder / "checkpoint-2", model.net),
        "transformers": (folder / "whole", wrapper.timm_model),
        "transformers, in shards": (folder / "shards", wrapper.timm_model),
    }


def fastai(folder: Path) -> Written:
    """``Learner.save``, and the pickled learner, which is refused."""
    from fastai.learner import Learner

    model = network()
    loaders = SimpleNamespace(device=torch.device("cpu"), train=None, valid=None)
    learner = Learner(loaders, model, loss_func=nn.CrossEntropyLoss(), path=folder, model_dir=".")
    learner.create_opt()
    learner.save("fastai")
    torch.save(learner, folder / "learner.pkl")
    return {"fastai": (folder / "fastai.pth", model), "fastai, a pickled learner": (folder / "learner.pkl", None)}


def accelerate(folder: Path) -> Written:
    """``save_state``, ``save_model``, and that in shards of torch's format."""
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), network()
    model, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    accelerator.save_state(str(folder / "state"))
    accelerator.save_model(model, str(folder / "model"))
    accelerator.save_model(model, str(folder / "shards"), safe_serialization=False, max_shard_size="20KB")
    return {f"accelerate, {name}": (folder / name, model) for name in ("state", "model", "shards")}


def mmpretrain(folder: Path) -> Written:
    """Its layout: ``backbone.`` and ``head.`` beside a preprocessor."""
    model = network()
    parts = {f"{'head' if name.startswith('fc') else 'backbone'}.{name}": t for name, t in model.state_dict().items()}
    parts["data_preprocessor.mean"] = torch.ones(3, 1, 1)
    torch.save({"meta": {"epoch": 1}, "state_dict": parts, "message_hub": {}}, folder / "epoch_1.pth")
    return {"mmpretrain, its layout": (folder / "epoch_1.pth", model)}


def sharded(folder: Path) -> Written:
    """FSDP's ``fully_shard`` by ``torch.distributed.checkpoint``, with its optimizer."""
    import torch.distributed as dist
    from torch.distributed.checkpoint import save
    from torch.distributed.checkpoint.state_dict import get_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model, plain = network(), network()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        state, optimizer = get_state_dict(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
        save({"model": state, "optim": optimizer, "step": 3}, checkpoint_id=str(folder))
    finally:
        dist.destroy_process_group()
    return {"FSDP, sharded": (folder, plain)}


def agrees(path: Path, module: nn.Module) -> bool:
    """Whether the file gives the module's own scores, to the bit."""
    loaded = load_model(ModelSpec(name="resnet18", kwargs=WIDTHS), path).module
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.equal(loaded(images), module.cpu().eval()(images))


def rows_of(write: Callable[[Path], Written]) -> list[Row]:
    """One row a file that a library writes: 1 where it is read exactly, or refused as it must be."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = write(Path(folder))
        except ImportError as error:
            return [Row(f"{write.__name__}: {error}", 0, "1", False, COMMAND)]
        for name, (path, module) in written.items():
            try:
                ok = agrees(path, module) if module is not None else _averages(path)
            except CheckpointError as error:
                ok = module is None and "torch.save(torch.load(" in str(error)
            rows.append(Row(name, float(ok), "1", ok, COMMAND))
    return rows


def _averages(path: Path) -> bool:
    """Whether plain and averaged weights are told apart."""
    plain, averaged = (load_model(ModelSpec(name="resnet18", kwargs=WIDTHS, ema=ema), path).module for ema in (0, 1))
    return not torch.equal(plain.get_parameter("fc.weight"), averaged.get_parameter("fc.weight"))


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default=str(Path(__file__).parent / "results" / "checkpoints"))
    output = parser.parse_args().output
    warnings.simplefilter("ignore")
    writers = (
        lightning, timm_, torchvision_references, transformers, fastai, accelerate, mmpretrain, sharded
    )  # fmt: skip
    rows = [row for write in writers for row in rows_of(write)]
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "timm", "lightning", "transformers", "fastai",
                                                                "accelerate"))  # fmt: skip
    note = "1: the weights are read and give the same scores to the bit; averages differ from the plain weights; a "
    note += f"pickled learner is refused with the line that saves its weights. {versions}."
    write_results(output, "Checkpoints written by other libraries", rows, notes=[note])
    for row in rows:
        print(f"{row.name:40} {'ok' if row.ok else 'NOT READ'}")
    if not all(row.ok for row in rows):
        raise SystemExit(1)


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
