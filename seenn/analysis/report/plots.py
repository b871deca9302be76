"""The three charts of an evaluation: accuracy over time, when images exit, and what a threshold buys."""

from __future__ import annotations

from collections.abc import Sequence

from seenn.analysis.report.chart import Chart, Panel, Series, fixed_steps
from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.figures import GREEN, INK, VERMILLION
from seenn.analysis.report.text import percent, steps
from seenn.metrics import ExitCurve, wilson_interval


def accuracy_chart(e: Evaluation) -> Chart:
    """Accuracy against t with its 95 % band, every image run for t steps; the ANN as a dashed line."""
    intervals = [wilson_interval(round(a * e.samples), e.samples) for a in e.accuracy_per_timestep]
    low, high = ([100 * bound for bound in bounds] for bounds in zip(*intervals, strict=True))
    accuracy = [100 * a for a in e.accuracy_per_timestep]
    series = [
        Series(name="95 % interval", style="band", x=e.steps, low=low, high=high),
        Series(name="SNN, every image for t steps", x=e.steps, y=accuracy, marker="o"),
    ]
    return _accuracy_chart(e, "accuracy", "Accuracy against timesteps", "timesteps t", series)


def tradeoff_chart(e: Evaluation, curve: ExitCurve) -> Chart:
    """Accuracy against mean timesteps for every threshold, with the chosen one, fixed T and the oracle."""
    oracle = f"oracle: knows when it is right, {steps(e.oracle_aet)}"
    mean, accuracy = curve.mean_timesteps.tolist(), (100 * curve.accuracy).tolist()
    series = [
        Series(name="early exit, every possible threshold", x=mean, y=accuracy),
        fixed_steps(e.steps, e.accuracy_per_timestep),
        Series(name=oracle, style="vertical", x=(e.oracle_aet,), color=GREEN),
    ]
    return _accuracy_chart(e, "tradeoff", "What early exit costs", "mean timesteps per image", series)


def exits_chart(e: Evaluation) -> Chart:
    """Share of images that exited at each t, with the mean marked; at each exit of each step where there are heads."""
    if e.heads:
        points, every = range(1, len(e.exits_per_point) + 1), len(e.heads) + 1
        share = [100 * count / e.samples for count in e.exits_per_point]
        texts = [f"{count:,}" if count else "" for count in e.exits_per_point]
        bars = Series(style="bars", x=points, y=share, texts=texts)
        panel = Panel(xlabel=f"exit point: {every} in each step, the last at its end", series=[bars], ticks=points)
        return Chart(name="exits", title="Where images exit", subtitle=e.subject, ylabel="images (%)", panels=(panel,))
    share = [100 * count / e.samples for count in e.exit.histogram]
    counts = [f"{count:,}" if count else "" for count in e.exit.histogram]
    mean = f"mean {e.mean_timesteps:.2f}; 95 % exit by t = {e.initial_steps + e.exit.p95}"
    series = [
        Series(style="bars", x=e.steps, y=share, texts=counts),
        Series(name=mean, style="vertical", x=(e.mean_timesteps,), color=VERMILLION, dashed=True),
    ]
    panel = Panel(xlabel="exit timestep t", series=series, ticks=e.steps)
    return Chart(name="exits", title="When images exit", subtitle=e.subject, ylabel="images (%)", panels=(panel,))


def _accuracy_chart(e: Evaluation, name: str, title: str, xlabel: str, series: Sequence[Series]) -> Chart:
    """Accuracy against time, on which the ANN and the chosen exit are marked."""
    marks = []
    if e.ann_accuracy is not None:
        label = f"ANN, {percent(e.ann_accuracy)}"
        marks.append(Series(name=label, style="horizontal", y=(100 * e.ann_accuracy,), color=INK, dashed=True))
    label = f"chosen exit: {percent(e.accuracy)} after {steps(e.mean_cost)}"
    x, y = (e.mean_cost,), (100 * e.accuracy,)
    marks.append(Series(name=label, style="marks", x=x, y=y, marker="*", color=VERMILLION))
    panel = Panel(xlabel=xlabel, series=(*series, *marks), ticks=e.steps)
    return Chart(name=name, title=title, subtitle=e.subject, ylabel="accuracy (%)", panels=(panel,))
