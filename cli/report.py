"""``seenn report``: several evaluations side by side."""

from __future__ import annotations

from dataclasses import dataclass

from cli.common import Console, command, text_table
from cli.groups import ReportOptions
from cli.options import argument, option
from cli.output import ReportFolder


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Reports that there are."""

    folders: tuple[str, ...] = argument(metavar="FOLDER...", nargs=-1, required=True)


@dataclass(frozen=True, kw_only=True)
class SideBySide(ReportOptions):
    """Where the common report goes."""

    report: str = option("Folder of the common report.", type=ReportFolder(), default="seenn-runs")


@command("Reports of several evaluations side by side.")
def report(console: Console, runs: Runs, options: SideBySide) -> None:
    """Put the reports in FOLDERs, which `seenn evaluate --report FOLDER` wrote, side by side in one."""
    from seenn.analysis.report.side_by_side import COLUMNS, read_runs, rows, write_side_by_side

    found = read_runs(runs.folders)
    page = write_side_by_side(found, options.report)
    columns = dict.fromkeys(COLUMNS, "")
    console.answer({"runs": dict(found), "report": str(page)}, text_table(columns, rows(found)))
    options.show(console, page)
