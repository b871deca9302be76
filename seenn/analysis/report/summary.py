"""An evaluation in a table and a few sentences that need no background, the unwelcome ones included."""

from __future__ import annotations

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.text import count, energy, percent, points, steps
from seenn.metrics.energy import ACCUMULATE_PJ, INTEGER_ACCUMULATE_PJ, INTEGER_MULTIPLY_PJ, MAC_PJ

QUANTISED = "ANN quantised to as many levels"
COLUMNS = ("per image", "accuracy", "steps", "work", "energy")

ENERGY_NOTE = (
    f"Energies are estimates for 45 nm hardware: {MAC_PJ} pJ per multiply-add (MAC), {ACCUMULATE_PJ} pJ per "
    f"addition (a spike reaching a synapse). In integers of b bits: {INTEGER_MULTIPLY_PJ} · (b/8)² + "
    f"{INTEGER_ACCUMULATE_PJ} pJ per MAC, {INTEGER_ACCUMULATE_PJ} pJ per addition (Horowitz 2014). Memory traffic is "
    f"left out; measured gains can be far smaller."
)


def summary_rows(e: Evaluation) -> list[tuple[str, ...]]:
    """The cells under ``COLUMNS``: the ANN where there is one, then the SNN without and with early exit."""
    rows: list[tuple[str, ...]] = []
    if e.ann_accuracy is not None:
        macs = f"{count(e.ann_macs)} MACs"
        rows.append(("ANN of the same weights", percent(e.ann_accuracy), "–", macs, energy(e.ann_energy_pj)))
        rows.append((QUANTISED, "–", "–", f"{macs}, {e.quantised.bits} bits", energy(e.quantised.energy_pj)))
    full = (percent(e.full_accuracy), f"{e.steps[-1]}", f"{count(e.synops_full)} additions")
    early = (percent(e.accuracy), f"{e.mean_cost:.2f}", f"{count(e.synops)} additions")
    rows.append(("spiking (SNN), every step", *full, energy(e.energy_full_pj)))
    rows.append(("spiking (SNN), early exit", *early, energy(e.energy_pj)))
    if e.policy_macs:
        macs = f"{count(e.policy_macs)} MACs"
        rows.append(("  of it, the policy network", "–", "–", macs, energy(MAC_PJ * e.policy_macs)))
    return rows


def verdict(e: Evaluation) -> list[str]:
    """What the figures mean, one sentence each: early exit, accuracy and energy against the ANN, caveats."""
    low, high = e.accuracy_interval
    sentences = [
        _early_exit(e),
        f"On other images of the same kind expect an accuracy of {percent(low)} to {percent(high)} "
        f"(95 % interval, {e.samples:,} images).",
    ]
    if e.depth is not None:
        sentences.append(f"Images leave at {', '.join(f'{place} {n:,}' for place, n in e.depth.by_place.items())}.")
    if e.drift is not None:
        like = "unlike" if e.drift["alarm"] else "not shown to be unlike"
        void = ": no guarantee of the exits holds here" if e.drift["alarm"] else ""
        sentences.append(f"They are {like} those that exits were calibrated on (p = {e.drift['p_value']:.2g}){void}.")
    if e.ann_accuracy is not None:
        sentences += [_accuracy_against_ann(e.accuracy - e.ann_accuracy), _energy_against_ann(e)]
        sentences.append(_against_quantised(e))
    else:
        sentences.append("There is no ANN behind this network, so it is compared with none.")
    if e.initial_steps:
        sentences.append(
            f"Every image takes {steps(e.initial_steps)} before the first that answers; all figures include them."
        )
    if e.policy_macs:
        sentences.append(
            f"The steps are chosen by a policy network that runs first: {count(e.policy_macs)} MACs, "
            f"{energy(MAC_PJ * e.policy_macs)} per image, included in the energy of early exit."
        )
    if e.analog_macs > 0:
        sentences.append(
            f"The SNN also does {count(e.analog_macs)} MACs per image that spikes do not replace (its "
            f"first layer, for one); the energy includes them."
        )
    sentences.append(_fed_by_spikes(e))
    sentences.append(
        f"Spikes per image: {count(e.events)} events (a neuron that fires in a step), {count(e.popcount)} set bits of "
        f"their counts, {count(e.spikes)} as unary spikes, which the additions count."
    )
    return [*sentences, ENERGY_NOTE]


def _early_exit(e: Evaluation) -> str:
    saved = 1 - e.mean_cost / e.steps[-1]
    if saved == 0:
        none = "The file has no exit rule" if e.policy.get("policy") == "fixed" else "No image exited early"
        return f"{none}: each image took {steps(e.steps[-1])}."
    change = e.accuracy - e.full_accuracy
    effect = f"{_more_or_less(change)} accurate" if change else "at the same accuracy"
    work = "" if e.depth is None else "the work of "
    return (
        f"Early exit answers after {work}{steps(e.mean_cost)} on average instead of {e.steps[-1]} "
        f"({100 * saved:.0f} % fewer), {effect}."
    )


def _accuracy_against_ann(change: float) -> str:
    how = f"{_more_or_less(change)} accurate than" if change else "exactly as accurate as"
    return f"With early exit the SNN is {how} the ANN."


def _energy_against_ann(e: Evaluation) -> str:
    ratio = e.energy_pj / e.ann_energy_pj
    figures = f"{energy(e.energy_pj)} against {energy(e.ann_energy_pj)}"
    if ratio > 1:
        return f"By this estimate the SNN needs MORE energy than the ANN: {figures}, {ratio:.2f} times as much."
    if ratio == 1:
        return f"By this estimate the SNN saves no energy against the ANN: {figures}."
    return f"By this estimate the SNN needs {100 * (1 - ratio):.0f} % less energy than the ANN: {figures}."


def _against_quantised(e: Evaluation) -> str:
    ann, snn = e.quantised.energy_pj, e.integer_energy_pj
    return (
        f"Beside an ANN quantised to as many levels as the finest neurons tell apart ({e.quantised.levels:,}, "
        f"{e.quantised.bits} bits), and in integers itself, the SNN needs {'MORE' if snn > ann else 'less'} energy: "
        f"{energy(snn)} against {energy(ann)}, {snn / max(ann, 1e-9):.2f} times as much."
    )


def _fed_by_spikes(e: Evaluation) -> str:
    fed = f"Spikes feed {100 * e.spiking_mac_share:.1f} % of the MACs behind the first layers"
    if e.analog_macs_per_step:
        fed += f"; in every step, {count(e.analog_macs_per_step)} MACs are analog and cost as much as the ANN's"
    if not e.running_means:
        return f"{fed}."
    kinds = ", ".join(sorted(set(e.running_means.values())))
    nodes = "1 node acts" if len(e.running_means) == 1 else f"{len(e.running_means)} nodes act"
    return f"{fed}. {nodes} on running means ({kinds}), of whose arithmetic no account is taken."


def _more_or_less(change: float) -> str:
    return f"{points(abs(change))} {'more' if change > 0 else 'LESS'}"
