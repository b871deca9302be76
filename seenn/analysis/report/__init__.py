"""What people see of an evaluation: tables, plots and a report folder; and of benchmarks: rows and bars."""

from seenn.analysis.report.bars import Row, write_results
from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.gallery import plot_gallery
from seenn.analysis.report.plots import plot_accuracy, plot_exits, plot_tradeoff
from seenn.analysis.report.samples import SampleExit, easiest_and_hardest
from seenn.analysis.report.summary import summary_rows, summary_table, verdict
from seenn.analysis.report.write import write_report

__all__ = [
    "Evaluation",
    "Row",
    "SampleExit",
    "easiest_and_hardest",
    "plot_accuracy",
    "plot_exits",
    "plot_gallery",
    "plot_tradeoff",
    "summary_rows",
    "summary_table",
    "verdict",
    "write_report",
    "write_results",
]
