"""An exit policy that meets a target on held-out samples, and the record of what it was found with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seenn.analysis.collect import Progress, collect_run, start_states
from seenn.batch import Batch
from seenn.data import DataSplits, Given, Split, as_split, told
from seenn.data.provenance import record_of
from seenn.errors import DataTypeError
from seenn.exits import ExitPolicy, ExitTarget, find_exit, make_rule, policy_macs
from seenn.exits.guarantees.drift import MarginRecord
from seenn.exits.registry import threshold_of
from seenn.runtime import Engine

if TYPE_CHECKING:
    from seenn.snn import SNN


_NEEDED = (
    "calibrate_exit needs {}: give seenn.load_data(…).exit, (images, labels), or images alone with a threshold, or "
    'with a target and risk="disagreement"'
)


def calibrate_exit(
    snn: SNN,
    split: Any,
    rule: str | ExitPolicy,
    *,
    threshold: float | None,
    engine: str | Engine,
    timesteps: int | None,
    batch_size: int,
    progress: Progress,
    target: Mapping[str, Any],
) -> SNN:
    """See ``SNN.calibrate_exit``."""
    snn.refuse_other_tasks("an exit rule")
    known = [field.name for field in fields(ExitTarget)]
    if unknown := sorted(target.keys() - {*known}):
        raise TypeError(
            f"calibrate_exit takes no {', '.join(unknown)}: the exit rule is its second argument, rule=; targets "
            f"are {', '.join(known)}"
        )
    asked = asdict(ExitTarget(**target))
    if threshold is not None and ExitTarget(**target).given:
        raise ValueError("give a threshold, or a target that one is found for, not both")
    chosen = make_rule(rule, threshold=threshold) if isinstance(rule, str) else rule
    if not isinstance(chosen, ExitPolicy) or isinstance(chosen, type):
        shown = repr(chosen) if not isinstance(chosen, type) else f"the class {chosen.__name__}"
        raise TypeError(f"rule is {shown}; expected a name, such as 'confidence', or seenn.ConfidenceExit(…)")
    if split is None:
        raise DataTypeError(_NEEDED.format("samples that nothing else has seen"))
    source: Split | Sequence[Batch]
    given = split if isinstance(split, Split | DataSplits | str | Path) else told(split)
    unlabelled = isinstance(given, Given) and given.labels is None
    if unlabelled:
        if ExitTarget(**target).given and asked["risk"] != "disagreement":
            raise DataTypeError(_NEEDED.format("their labels as well, a pair"))
        source = list(snn.batch(given).split(batch_size))
    else:
        source = as_split(given, "exit", snn.preprocessing, snn.class_names)
        snn.check_split(source, use="exit")
    steps = snn.steps(timesteps)
    runner = snn.make_engine(engine, timesteps=steps)
    run = collect_run(
        snn.network,
        source,
        steps,
        engine=runner,
        batch_size=batch_size,
        labelled=not unlabelled,
        progress=progress,
    )
    if unlabelled:
        run = run.judged_by_itself()
    state = start_states(chosen, source) if policy_macs(chosen) else None
    found = find_exit(run, chosen, state=state, **asked)
    if unlabelled:
        asked["risk"] = "disagreement"
    return snn.with_policy(
        found.policy,
        timesteps=steps,
        engine=runner.name,
        data=record_of(source) if isinstance(source, Split) else {},
        **asked,
        threshold=threshold_of(found.policy),
        **found.figures,
        margins=MarginRecord.of(run.independent().logits_sum[0]).to_json(),
    )
