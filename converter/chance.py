"""Whether a model knows these data at all: tested before anything is made of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from seenn.batch import Batch
from seenn.core.graph import OpGraph
from seenn.distributed import world
from seenn.errors import ModelError

log = logging.getLogger(__name__)

CONFIDENCE = 0.99
ENOUGH = 200  # images; fewer show little


def shown_better(right: int, samples: int, chance: float) -> bool:
    """Whether ``right`` of ``samples`` answers show, at 99 %, a model that is right more often than ``chance``.

    The one-sided exact binomial test: P(X ≥ right) ≤ 0.01 for X of B(samples, chance).
    """
    from scipy.stats import binom

    return float(binom.sf(right - 1, samples, chance)) <= 1 - CONFIDENCE


def refuse_chance(
    graph: OpGraph, batches: Iterable[Batch], *, task: str = "classes", guess: str = "", force: bool = False
) -> None:
    """Refuses a model that is not shown to be better than always answering the most frequent class.

    Few images, or none with classes, show nothing: that is a warning. So is a preprocessing that nobody stated.

    Args:
        graph: the ANN.
        batches: held-out images with their classes.
        task: what the scores say, one of ``converter.outputs.TASKS``; labels and values are no classes.
        guess: where the preprocessing is from, if nobody stated it.
        force: a warning in place of the error.

    Raises:
        ModelError: not better than chance, with the likely reasons.
    """
    here, right, labels = world(), 0, []
    device = next(iter(graph.state_dict().values()), torch.zeros(0)).device
    with torch.no_grad():
        for number, batch in enumerate(batches):
            if batch.labels is None or task in ("labels", "values"):
                log.warning("without classes, nothing shows that images are prepared as the model wants them")
                return
            labels.append(batch.labels)
            if here.takes(number):
                right += int((graph(batch.inputs.to(device)).argmax(1).cpu() == batch.labels).sum())
    if not labels:
        return
    right = int(here.sum_(torch.tensor(right)))
    counts = torch.cat(labels).bincount()
    samples, chance = int(counts.sum()), float(counts.max() / counts.sum())
    found = f"the ANN is right on {right} of {samples} held-out images ({100 * right / samples:.1f} %)"
    if guess:
        log.warning(
            "preprocessing is a guess (%s): %s; state --input-size, --mean and --std as in training", guess, found
        )
    if shown_better(right, samples, chance):
        return
    if samples < ENOUGH and right <= chance * samples:
        log.warning(
            "%s, no more than by always answering one class (%.1f %%): check the order of classes, --mean, --std and "
            "--input-size; %d images or more would be refused",
            *(found, 100 * chance, ENOUGH),
        )
    elif samples < ENOUGH:
        log.warning("%s, too few to show that it is better than chance; give %d or more", found, ENOUGH)
    else:
        message = (
            f"{found}, not shown better than always answering one class ({100 * chance:.1f} %): check --mean, --std, "
            "--input-size, the order of classes and the layout; --force converts it all the same"
        )
        if not force:
            raise ModelError(message)
        log.warning(message)
