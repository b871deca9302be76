"""What a run is worth: pure functions from tensors to figures."""

from seenn.metrics.accuracy import accuracy_per_timestep, correct_per_timestep
from seenn.metrics.anytime import average_exit_time, oracle_exit_time
from seenn.metrics.calibration_error import expected_calibration_error
from seenn.metrics.exit_curve import ExitCurve, exit_curve
from seenn.metrics.exits import ExitStatistics, exit_statistics
from seenn.metrics.intervals import bootstrap_mean_interval, wilson_interval

__all__ = [
    "ExitCurve",
    "ExitStatistics",
    "accuracy_per_timestep",
    "average_exit_time",
    "bootstrap_mean_interval",
    "correct_per_timestep",
    "exit_curve",
    "exit_statistics",
    "expected_calibration_error",
    "oracle_exit_time",
    "wilson_interval",
]
