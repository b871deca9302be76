"""Which tensors of a weights file are a module's: found by the names that the module itself has.

Trainings put their model into wrappers, and files into mappings: ``{"state_dict": {"module.net.conv1.weight": …}}``
holds ``conv1.weight``. All of that is a path before the module's own names. The path under which *every* name
of the module lies is the one that is meant, whatever it is called.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.load.reparametrised import put_together
from converter.load.weights import Weights
from seenn.errors import CheckpointError

#: Components that DDP, ``torch.compile``, FSDP, activation checkpoints and Fabric put anywhere into a name.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_flat_module")
)
#: What the attribute with the model is called; what lies beside it is none of its weights.
ROLES = frozenset(
    ["model", "net", "network", "backbone", "encoder", "classifier", "student", "student_model", "online_model",
     "ema_model", "model_ema", "timm_model", "base_model", "feature_extractor", "head", "neck", "learner", "cnn"]
)  # fmt: skip
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")  # as in torchvision's files of 2017
_SWAPPED = "current_model_state."  # Lightning's WeightAveraging: the plain weights, where state_dict are averages
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged|shadow)([._]|$)")
#: Entries that no network computes with: counters, those of profilers, losses, torchvision's training-only heads.
_BOOKKEEPING = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|total_ops|total_params)$"
    r"|^(aux1|aux2|AuxLogits|criterion|loss|loss_fn|loss_func|loss_function|loss_module|data_preprocessor|metrics?"
    r"|(train|val|valid|test)_(acc|accuracy|loss|metrics?))\."
)


_LISTED = 6


@dataclass(frozen=True)
class Named:
    """Tensors of a file by the names of a module, and what was done to get there."""

    tensors: dict[str, Tensor]  # what does not belong to the module is among them, for the caller to refuse
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Names:
    """Names without wrappers, as far as they stay apart."""

    original: dict[str, str]  # plain -> as it was

    @classmethod
    def of(cls, names: Iterable[str]) -> _Names:
        names = list(names)
        plain = {_plain(name): name for name in names}
        return cls(plain if len(plain) == len(names) else {name: name for name in names})


def name_as_in(own: Mapping[str, Tensor], weights: Weights, *, ema: bool = False) -> Named:
    """The tensors of ``weights`` that are meant for a module, by its names.

    Args:
        own: the module's state dict.
        weights: of a file.
        ema: take the averaged weights where both are there. By default the plain ones are taken, and the averaged ones
            where only they are.

    Raises:
        CheckpointError: several sets of weights fit, averaged ones are wanted and there are none, or weights are not
            plain tensors that memory backs.
    """
    file = weights.file
    module = _Names.of(own)
    plain = {name: weights.tensors[old] for name, old in _Names.of(weights.tensors).original.items()}
    given, notes = put_together(plain, module.original, lambda parts: check_storage(file, parts))
    roots = sorted({_plain(root) for root in weights.roots}, key=len)
    wanted = {name: own[old] for name, old in module.original.items() if not _BOOKKEEPING.search(name)}
    required = set(wanted)
    removed, hits = _places(required, given)
    full = [place for place, names in hits.items() if names == required]
    expected = {name.removeprefix(removed): tensor for name, tensor in wanted.items()}
    if full:
        places = [_chosen(file, full, given, expected, roots, ema, notes)]
    else:
        places = _best(required, hits, given, expected, removed) or [max(roots, key=lambda r: _count(given, r))]
        if ema and len(places) > 1:
            raise _no_average(file)
    tensors: dict[str, Tensor] = {}
    for place in places:
        for name, tensor in given.items():
            if name.startswith(place):
                inner = removed + name.removeprefix(place)
                tensors[module.original.get(inner, inner)] = tensor
    left_out = sorted(name for name in tensors if name not in own and _BOOKKEEPING.search(name))
    root = max((root for root in roots if places[0].startswith(root)), key=len, default="")
    copies = tuple(place for place in (*places, *full) if place)  # and the other whole sets
    beside = [name for name in given if name.startswith(root) and "" not in places and not name.startswith(copies)]
    ours = all(set(place.removeprefix(root).split(".")[:-1]) <= ROLES for place in places)
    for name in beside:
        if ours or _BOOKKEEPING.search(name.removeprefix(root)):
            left_out.append(name.removeprefix(root))
        else:
            tensors[name] = given[name]
    left_out += [name.removeprefix(root) for name in weights.others if _plain(name).startswith(root) and root in roots]
    for name in left_out:
        tensors.pop(name, None)
    if said := _summary([name for name in left_out if not name.endswith("num_batches_tracked")]):
        notes.append(f"left out {said}")
    check_storage(file, tensors)
    return Named(tensors, tuple(notes))


def check_storage(file: object, tensors: Mapping[str, Tensor]) -> None:
    """Every value must have its own bytes: a stride-0 tensor can declare terabytes over four of them.

    Raises:
        CheckpointError: lists those that do not, and those that are no plain dense tensors.
    """
    offenders = []
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            offenders.append(f"{name} (not a plain dense tensor)")
        elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            offenders.append(f"{name} (declares {tensor.numel():,} values over fewer bytes)")
    if offenders:
        raise CheckpointError(
            f"{file}: cannot use {len(offenders)} tensors: {'; '.join(offenders[:4])}; save a dense float state dict"
        )


def _plain(name: str) -> str:
    """``name`` without what wrappers put into it."""
    name = _OLD_DENSENET.sub(r"\1\2.", name)
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _places(required: set[str], given: Mapping[str, Tensor]) -> tuple[str, dict[str, set[str]]]:
    """The names of the module found under each path, and the path of its own that was taken off them for it."""
    attempts = []
    for removed in _own_paths(required):
        wanted = {name.removeprefix(removed): name for name in required}
        hits: defaultdict[str, set[str]] = defaultdict(set)
        for name in given:
            for place, inner in _cuts(name):
                if inner in wanted:
                    hits[place].add(wanted[inner])
        attempts.append((removed, dict(hits)))
        if any(len(names) == len(required) for names in hits.values()):
            return attempts[-1]
    return max(attempts, key=lambda attempt: max(map(len, attempt[1].values()), default=0))


def _own_paths(names: Iterable[str]) -> Iterator[str]:
    """Roles that all names of a module begin with: a file written from the inside lacks them."""
    split = [name.split(".") for name in names]
    path = ""
    yield path
    for parts in zip(*(name[:-1] for name in split), strict=False):
        if len({*parts}) > 1 or parts[0] not in ROLES:
            return
        path += f"{parts[0]}."
        yield path


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """``("", "a.b.c"), ("a.", "b.c"), ("a.b.", "c")``."""
    yield "", name
    start = name.find(".") + 1
    while start:
        yield name[:start], name[start:]
        start = name.find(".", start) + 1


def _chosen(
    file: object,
    full: list[str],
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    roots: list[str],
    ema: bool,
    notes: list[str],
) -> str:
    """The one path of several that hold the whole module: by shapes, by what was asked for, and by directness."""
    fitting = [place for place in full if all(given[place + n].shape == t.shape for n, t in expected.items())]
    places = fitting or full
    swapped = any(root.startswith(_SWAPPED) for root in roots)
    averaged = [
        place
        for place in places
        if _AVERAGED.search(place) or f"{place}n_averaged" in given or (swapped and not place.startswith(_SWAPPED))
    ]
    plain = [place for place in places if place not in averaged]
    if ema and not averaged:
        raise _no_average(file)
    if averaged and plain:
        notes.append(
            "averaged (EMA) weights are taken" if ema else "averaged (EMA) weights are there too: see --use-ema"
        )
    places = averaged if ema or not plain else plain
    places = [place for place in places if place in roots] or places
    for place in places:
        check_storage(file, {place + name: given[place + name] for name in expected})
    first, *rest = places
    different = [place for place in rest if any(not torch.equal(given[first + n], given[place + n]) for n in expected)]
    if different:
        listed = ", ".join(repr(place.rstrip(".")) for place in [first, *different])
        raise CheckpointError(f"{file}: several state dicts fit the model: {listed}; save the one you mean alone")
    return first


def _best(
    required: set[str],
    hits: Mapping[str, set[str]],
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    removed: str,
) -> list[str]:
    """The path with most of the module, and those beside it that hold the rest: ``backbone.`` and ``head.``."""
    if not hits:
        return []
    best = max(hits, key=lambda place: len(hits[place]))
    parent, *_ = best.rstrip(".").rpartition(".")
    beside = [
        place
        for place in hits
        if place != best
        and place.rstrip(".").rpartition(".")[0] == parent
        and {place.rstrip(".").rpartition(".")[2], best.rstrip(".").rpartition(".")[2]} <= ROLES
    ]
    rest, found = required - hits[best], []
    for name in rest:
        inner = name.removeprefix(removed)
        places = [p for p in beside if name in hits[p] and given[p + inner].ndim == expected[inner].ndim]
        if len(places) != 1:
            return [best]
        found += places
    return [best, *dict.fromkeys(found)]


def _no_average(file: object) -> CheckpointError:
    return CheckpointError(f"{file}: holds no averaged (EMA) weights of this model; leave out --use-ema")


def _summary(names: list[str]) -> str:
    """The names; many of a kind as one with a star."""
    if len(names) > _LISTED:
        counters = {"total_ops", "total_params"}
        names = [f"*.{name.rpartition('.')[2]}" if name.rpartition(".")[2] in counters else name for name in names]
        names = [name if name[0] == "*" or "." not in name else f"{name.split('.')[0]}.*" for name in names]
    names = list(dict.fromkeys(names))
    return ", ".join(names[:_LISTED]) + f" and {len(names) - _LISTED} more" * (len(names) > _LISTED)


def _count(given: Mapping[str, Tensor], root: str) -> int:
    return sum(name.startswith(root) and "optim" not in root for name in given)
