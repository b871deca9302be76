"""What people see of an evaluation: tables, plots and a report folder; and of benchmarks: rows and bars."""

from seenn.report.bars import Row, write_results
from seenn.report.evaluation import Evaluation
from seenn.report.gallery import plot_gallery
from seenn.report.plots import plot_accuracy, plot_exits, plot_tradeoff
from seenn.report.samples import SampleExit, easiest_and_hardest
from seenn.report.summary import summary_rows, summary_table, verdict
from seenn.report.write import write_report

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
