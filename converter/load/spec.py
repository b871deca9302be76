"""What to build, and what was built."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from converter.load.foreign import no_model
from converter.load.layout import find_first_convolution, find_head
from seenn.data import Preparation, Preprocessing
from seenn.errors import CheckpointError, ModelArgumentError, ModelError

TORCHVISION = "torchvision:"
HUB_PREFIXES = ("hf-hub:", "hf_hub:", "local-dir:")
STEMS = ("auto", "imagenet", "cifar")
LAYOUTS = ("auto", "nchw", "nhwc")

#: Keywords of model factories that a spec has a field for, or that would read files or the network. Factories of the
#: user's own may get them switched off, where that is not their default.
RESERVED_KWARGS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "in_chans",
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "weights",
    }
)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Names a classifier. A spec is data: it can be recorded beside the weights and built again."""

    name: str  # timm "resnet18", "hf-hub:user/model", "torchvision:resnet18" or "package.module:factory"
    kwargs: Mapping[str, object] = field(default_factory=dict)  # Python literals, passed to the factory
    num_classes: int | None = None  # None: from the checkpoint's shapes, else the model's own
    in_chans: int | None = None  # None: from the checkpoint's shapes, else the images', else the model's
    stem: str = "auto"  # "imagenet": as the library builds it; "cifar": 3×3 stride 1 and no max-pool
    levels: int | None = None  # of QCFS activations in place of the model's ReLUs; None: the model's own
    pretrained: bool = False  # download the library's weights where no checkpoint is given
    ema: bool = False  # of a checkpoint that holds both, take the averaged weights
    layout: str = "auto"  # of an ONNX file: "nhwc" has the channels last; "auto": found out
    output: str | None = None  # name or number of the output with the scores, where there are several
    classes: tuple[int, ...] | None = None  # which scores are the classes, in their order; None: all
    class_names: tuple[str, ...] = ()  # of all scores; () where they are not known

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", None if self.classes is None else tuple(self.classes))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not self.name:
            raise ValueError("the model name is empty: name one")
        if reason := no_model(self.name):
            raise ValueError(reason)
        if self.stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {self.stem!r}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if not all(isinstance(row, int) and row >= 0 for row in self.classes or ()) or self.classes == ():
            raise ValueError(f"classes must be numbers of outputs, got {self.classes!r}")
        if not all(isinstance(name, str) for name in self.class_names):
            raise ValueError(f"class_names must be strings, got {self.class_names!r:.80}")
        for name in ("num_classes", "in_chans", "levels"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        own = ":" in self.name and not self.name.startswith((TORCHVISION, *HUB_PREFIXES))
        off = {key for key, value in self.kwargs.items() if own and value in (None, False)}
        if reserved := sorted(RESERVED_KWARGS & self.kwargs.keys() - off):
            raise ValueError(
                f"model kwargs may not hold {', '.join(reserved)}; use the options of their own "
                f"(--num-classes, --in-chans, --pretrained, --ckpt)"
            )
        if opaque := sorted(key for key, value in self.kwargs.items() if not _is_literal(value)):
            raise ValueError(
                f"model kwargs must be Python literals, which {', '.join(opaque)} is not; build the module "
                f"yourself and pass it through LoadedModel.from_module"
            )

    def for_classes(self, count: int) -> ModelSpec:
        """With so many classes, where it does not say how many it has or which of its outputs are meant."""
        return replace(self, num_classes=count) if self.num_classes is None and self.classes is None else self

    @property
    def scores(self) -> int | None:
        """How many scores come out; None where that is not known."""
        return self.num_classes if self.classes is None else len(self.classes)

    @property
    def score_names(self) -> tuple[str, ...]:
        """What they are called; () where that is not known."""
        rows = range(len(self.class_names)) if self.classes is None else self.classes
        return tuple(self.class_names[row] for row in rows) if self.class_names else ()

    @property
    def architecture(self) -> str:
        """The name without timm's pretrained tag."""
        return self.name if ":" in self.name else self.name.split(".")[0]

    def to_record(self) -> dict[str, Any]:
        """The spec as JSON; kwargs as Python literals, so that tuples and lists stay what they were."""
        return {**asdict(self), "kwargs": {key: repr(value) for key, value in self.kwargs.items()}}

    @classmethod
    def from_record(cls, record: object) -> ModelSpec:
        """The spec that :meth:`to_record` wrote.

        Raises:
            CheckpointError: ``record`` is something else.
        """
        try:
            if not isinstance(record, dict) or not isinstance(record.get("name"), str):
                raise ValueError("expected an object with a name")
            kwargs = {key: ast.literal_eval(text) for key, text in record.get("kwargs", {}).items()}
            return cls(**{**record, "kwargs": kwargs})
        except (ValueError, TypeError, SyntaxError, AttributeError, MemoryError, RecursionError) as error:
            raise CheckpointError(
                f"the recorded model cannot be read: {error}; got {record!r:.200}; write the file again"
            ) from error


@dataclass(frozen=True)
class LoadedModel:
    """A classifier in eval mode, the spec that rebuilds it, and how its images are prepared."""

    module: nn.Module
    spec: ModelSpec  # resolved: num_classes, in_chans (None without convolutions) and stem are filled in
    preprocessing: Preparation | None  # None: not known, the data set's own applies
    record: dict[str, Any]  # JSON: the resolved spec
    suggestion: Preprocessing | None = None  # the library's, for pictures that have no size of their own
    input_shape: tuple[int, ...] | None = None  # the only one that it takes; None: any, or not known

    @property
    def output(self) -> str | None:
        """Which of several results of the module is meant; of an ONNX file its import chose."""
        return None if "onnx" in self.record else self.spec.output

    @classmethod
    def from_module(cls, module: nn.Module, *, preprocessing: Preparation | None = None) -> LoadedModel:
        """Takes a copy of a module as it is; the caller's own stays as it was, in training mode or not.

        Raises:
            ModelError: the module has no convolution and no linear layer.
        """
        module = copy.deepcopy(module)
        spec = ModelSpec(name=f"module:{type(module).__qualname__}", stem="imagenet")
        return cls.of(module, spec, preprocessing)

    @classmethod
    def of(cls, module: nn.Module, spec: ModelSpec, preprocessing: Preparation | None) -> LoadedModel:
        """``module`` with ``spec``, whose open fields are read off the module."""
        first = find_first_convolution(module)
        in_chans = None if first is None else first.inputs
        spec = replace(spec, num_classes=find_head(module).outputs, in_chans=in_chans)
        return cls(module.eval(), spec, preprocessing, spec.to_record())


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def build_error(spec: ModelSpec, error: Exception) -> type[ModelError]:
    """What an error that a model's factory raised is: of the arguments that it was given, or else of the factory."""
    refused = isinstance(error, TypeError) and any(repr(key) in str(error) for key in spec.kwargs)
    return ModelArgumentError if refused else ModelError


def parse_model_kwargs(text_items: Iterable[str]) -> dict[str, object]:
    """Keyword arguments from ``channels=(32,64),stem_width=32``; several items add up.

    They read as those of a call in Python, with its brackets and quotes. A value is a literal where it is one and a
    string otherwise, as in timm; nothing is evaluated.

    Raises:
        ValueError: an entry is not ``key=value``, a key comes twice, a bracket or a quote stays open.
    """
    parsed: dict[str, object] = {}
    for text in text_items:
        written = f"dict({text.strip(' ,')})"
        try:
            call = ast.parse(written, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise ValueError(f"model kwargs: expected key=value,…, got {text!r} ({error})") from error
        named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args
        if not isinstance(call, ast.Call) or not named or any(entry.arg is None for entry in call.keywords):
            raise ValueError(f"model kwargs: expected key=value, got {text!r}")
        for entry in call.keywords:
            if entry.arg in parsed:
                raise ValueError(f"model kwargs: {entry.arg!r} is given twice: leave one out")
            parsed[str(entry.arg)] = _literal(ast.get_source_segment(written, entry.value) or "")
    return parsed


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # what literal_eval documents
        return text
