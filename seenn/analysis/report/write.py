"""The report of an evaluation: JSON for programs, Markdown and HTML for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.figures import PathLike
from seenn.analysis.report.gallery import GALLERY, gallery
from seenn.analysis.report.page import Block, Code, Heading, Lines, Page, Picture, Plot, Table, provenance
from seenn.analysis.report.plots import accuracy_chart, exits_chart, tradeoff_chart
from seenn.analysis.report.summary import COLUMNS, summary_rows, verdict
from seenn.analysis.report.text import percent, policy, steps


def write_report(e: Evaluation, raw: Callable[[int], Tensor] | None, folder: PathLike) -> Path:
    """Writes ``report.json``, ``report.md``, ``report.html`` and the plots into ``folder``, all or none.

    The folder is made where it is missing; files of an earlier report are replaced, and plots that this
    evaluation does not have are removed.

    Args:
        raw: the pixels of a sample by its index, uint8 ``[C, H, W]``; None: samples are no pictures.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: an image cannot be read.
        OutputError: the folder cannot be written.
    """
    pictures = gallery(e, raw, GALLERY)
    tradeoff = None if e.curve is None else tradeoff_chart(e, e.curve)
    charts = [chart for chart in (tradeoff, accuracy_chart(e), exits_chart(e)) if chart is not None]
    by_timestep = enumerate(zip(e.accuracy_per_timestep, e.exit.histogram, strict=True), 1)
    blocks: list[Block] = [Table(COLUMNS, summary_rows(e)), Lines(verdict(e), listed=True), *map(Plot, charts)]
    blocks += [
        *pictures,
        Heading("Per timestep"),
        Lines(
            [
                f"Half of the images had exited by t = {e.exit.p50}, 95 % by t = {e.exit.p95}.",
                f"Average exit time (AET): {steps(e.aet)}; oracle, which stops at the first right answer: "
                f"{steps(e.oracle_aet)}.",
            ]
        ),
        Table(
            ("t", "accuracy if every image ran t steps", "images that exited at t"),
            [(str(t), percent(a), f"{n:,}") for t, (a, n) in by_timestep],
        ),
        *_sites(e),
    ]
    if e.running_means:
        text = "What acts on the mean of all steps so far: neither affine nor spikes."
        nodes = [(Code(name), op) for name, op in e.running_means.items()]
        blocks += [Heading("Running means"), Lines([text]), Table(("node", "op"), nodes)]
    blocks += provenance(
        network=e.network,
        fingerprint=e.fingerprint,
        made_from=e.source,
        data=f"{e.data}, {e.split} split",
        seed=str(e.seed),
        exit_policy=policy(e.policy),
        command=e.command,
        **e.versions,
    )
    page = Page(name="report", title=f"{e.network} on {e.data}", network=e.fingerprint, blocks=blocks)
    written = page.write(folder, e.to_json())
    for stale in {"tradeoff.png", GALLERY} - {block.file for block in blocks if isinstance(block, Plot | Picture)}:
        written.with_name(stale).unlink(missing_ok=True)
    return written


def _sites(e: Evaluation) -> list[Block]:
    """Spikes of each site, and where its error against the ANN is known, that too."""
    errors = {site.get("site"): site.get("relative_error") for site in e.manifest.get("per_site", ())}
    rows = []
    for site, rate in e.spike_rate_per_site.items():
        error = errors.get(site)
        said = "–" if error is None else f"{error:.3f}" + (" (diverges)" if error >= 1 else "")
        rows.append((Code(site), f"{rate:.4f}", said))
    text = (
        "Spikes per neuron and timestep; relative error ‖ANN − mean spikes‖ / ‖ANN‖ at T, as the conversion found it."
    )
    return [Heading("Neuron sites"), Lines([text]), Table(("site", "spike rate", "relative error"), rows)]
