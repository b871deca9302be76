"""A network as a folder for a model hub: weights, ``config.json`` in timm's terms, and a card made of the evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seenn.checkpoint import load, save
from seenn.data import Preprocessing
from seenn.errors import CheckpointError, ModelError, first_line
from seenn.exits import policy_to_json
from seenn.files import PathLike, atomic_folder
from seenn.snn import SNN

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_PREFIX = "hf-hub:"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FOLDERS = re.compile(r"(?<![\w./])/(?=[^/\s])(?:[^\s/\"']+/)+")  # of an absolute path, not of an address


def save_pretrained(snn: SNN, folder: PathLike) -> None:
    """Writes ``model.safetensors``, ``config.json`` and ``README.md`` into ``folder``; other files there are kept.

    Folders of this machine are left out of the manifest.

    Raises:
        OutputError: a file cannot be written; what was there before is intact.
    """
    manifest = _without_folders(json.loads(json.dumps(dict(snn.manifest))))
    for record in (manifest.get("data"), (manifest.get("exit") or {}).get("data")):
        if isinstance(record, dict):
            record["data_dir"] = None
    source = manifest.get("source")
    if isinstance(source, dict) and isinstance(source.get("file"), str):
        source["file"] = Path(source["file"]).name
    snn = replace(snn, manifest=manifest)
    with atomic_folder(folder) as inside:
        save(inside / WEIGHTS, snn)
        (inside / CONFIG).write_text(json.dumps(config(snn), indent=2) + "\n", encoding="utf-8")
        (inside / CARD).write_text(card(snn), encoding="utf-8")


def from_pretrained(name: PathLike, *, revision: str | None = None) -> SNN:
    """The network in a folder of ``save_pretrained``, or in a repository ``user/model`` of the Hugging Face Hub.

    What was fetched before needs no network, and with ``HF_HUB_OFFLINE=1`` nothing else is asked for.

    Raises:
        CheckpointError: the folder holds no network of seenn's.
        ModelError: there is no such folder, and no such repository can be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(f"{folder} has no {WEIGHTS}: give a folder that save_pretrained wrote")
        return load(folder / WEIGHTS)
    repository = str(name).removeprefix(_PREFIX)
    if not _NAME.fullmatch(repository):
        raise ModelError(f"{name} is neither a folder nor the name of a repository: expected user/model")
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repository, WEIGHTS, revision=revision, library_name="seenn")
    except Exception as error:  # of the network, of the hub, of its cache
        raise ModelError(
            f"{repository} cannot be fetched ({first_line(error)}): check the name and the connection, or give a folder"
        ) from error
    return load(path)


def push_to_hub(snn: SNN, repository: str, *, private: bool = False, message: str = "Add the network") -> str:
    """Uploads what ``save_pretrained`` writes to ``user/model``, made where it is not there; returns its address.

    Raises:
        ValueError: no name of a repository.
        ModelError: the hub refuses, or cannot be reached.
    """
    if not _NAME.fullmatch(repository):
        raise ValueError(f"a repository is called user/model, got {repository!r}")
    import huggingface_hub

    with TemporaryDirectory() as folder:
        save_pretrained(snn, folder)
        try:
            hub = huggingface_hub.HfApi(library_name="seenn")
            hub.create_repo(repository, private=private, exist_ok=True)
            done = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except Exception as error:  # as above
            raise ModelError(
                f"{repository} cannot be written ({first_line(error)}): log in with `hf auth login`, and check the name"
            ) from error
    return str(done)


def config(snn: SNN) -> dict[str, Any]:
    """``config.json``: timm's keys where timm has one."""
    shape, p = list(snn.network.input_shape), snn.preprocessing
    (classes,) = snn.network.shapes[snn.network.graph.output]
    pretrained: dict[str, Any] = {"input_size": shape, "fixed_input_size": True, "num_classes": classes}
    if p is not None:
        pretrained |= {
            "mean": list(p.mean),
            "std": list(p.std),
        }
    if isinstance(p, Preprocessing):
        pretrained |= {"interpolation": p.interpolation, "crop_pct": p.crop, "crop_mode": "center"}
    if snn.class_names:
        pretrained["label_names"] = list(snn.class_names)
    return {
        "architecture": _source(snn).get("name", "spiking network"),
        "num_classes": classes,
        "library_name": "seenn",
        "pretrained_cfg": pretrained,
        "seenn": {
            "timesteps": snn.timesteps,
            "initial_steps": snn.network.initial_steps,
            "sites": len(snn.network.sites),
            "policy": None if snn.policy is None else policy_to_json(snn.policy),
            "conversion": snn.manifest.get("conversion"),
        },
    }


def card(snn: SNN) -> str:
    """The model card: what it is, what is known about it and from where, how to use it, and what is not known."""
    return "\n".join(_card(snn))


def _card(snn: SNN) -> Iterator[str]:
    manifest, name = snn.manifest, str(_source(snn).get("name", "a network"))
    yield "---\nlibrary_name: seenn\npipeline_tag: image-classification"
    yield "tags: [spiking-neural-network, early-exit]\n---"
    yield f"\n# {name} as a spiking network\n"
    shape = " × ".join(map(str, snn.network.input_shape))
    sites = len(snn.network.sites)
    yield f"It takes {shape} images, has {sites} layers of spiking neurons, and answers after at most {snn.timesteps}"
    yield f"timesteps{' or as soon as its exit rule says so' if snn.policy else ''}.\n"
    yield "```python\nimport seenn\n\nsnn = seenn.from_pretrained(FOLDER_OR_NAME)"
    yield "answers = snn.predict(images)\nprint(answers.labels, answers.exit_timestep, answers.confidence)\n```\n"
    yield "## Figures\n"
    rows = list(_figures(manifest))
    if rows:
        yield "| what | figure | measured on |\n|---|---|---|"
        yield from (f"| {what} | {figure} | {where} |" for what, figure, where in rows)
    else:
        yield "None are recorded in the file."
    yield "\n## Where it comes from\n"
    for title, key in (("source", "source"), ("conversion", "conversion"), ("training", "direct"), ("data", "data")):
        if key in manifest:
            yield f"- {title}: `{json.dumps(_short(manifest[key]))}`"
    if snn.policy is not None:
        yield f"- exit rule: `{json.dumps(policy_to_json(snn.policy))}`"
    if "versions" in manifest:
        yield f"- made with: `{json.dumps(manifest['versions'])}`"
    command = f"seenn evaluate {WEIGHTS}"
    yield f"- figures on the test split: `{command}`, with the data named above"
    yield "\n## Limits\n"
    yield "- Figures of the exit split were used to choose the exit; only those of a test split say what to expect."
    yield "- Images must be prepared as `config.json` says. Other kinds of images were not tried."
    islands = len(snn.network.running_means)
    if islands:
        yield f"- {islands} nodes are not spiking: they compute with real numbers in every step."
    yield "- Energies are estimates for 45 nm hardware, and leave memory traffic out.\n"


def _figures(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    check, exits = manifest.get("check") or {}, manifest.get("exit") or {}
    if "ann_accuracy" in check:
        where = f"{check.get('split')} split, {check.get('samples')} images"
        yield "accuracy of the ANN", f"{check['ann_accuracy']:.2%}", where
        if steps := check.get("accuracy_per_timestep"):
            yield f"accuracy after {len(steps)} timesteps", f"{steps[-1]:.2%}", where
        if check.get("agreement") is not None:
            yield "labels equal to the ANN's", f"{check['agreement']:.2%}", where
    where = f"{exits.get('split')} split, {exits.get('samples')} images, engine {exits.get('engine')}"
    for key, value in exits.items():
        if isinstance(value, float) and key in ("accuracy", "mean_timesteps", "full_accuracy"):
            shown = f"{value:.2f}" if key == "mean_timesteps" else f"{value:.2%}"
            yield f"{key.replace('_', ' ')}, with exits", shown, where


def _without_folders(value: Any) -> Any:
    """JSON in which absolute paths are names."""
    if isinstance(value, dict):
        return {key: _without_folders(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_without_folders(own) for own in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def _source(snn: SNN) -> Mapping[str, Any]:
    source = snn.manifest.get("source")
    return source if isinstance(source, Mapping) else {}


def _short(record: Any) -> Any:
    """Without fingerprints and what is not set."""
    if not isinstance(record, Mapping):
        return record
    left = {key: value for key, value in record.items() if value is not None and "fingerprint" not in key}
    return {key: _short(value) for key, value in left.items() if value != {}}
