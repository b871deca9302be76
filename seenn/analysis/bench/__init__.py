"""How fast a spiking network is, beside the ANN that it came from, measured in alternation on this machine."""

from seenn.analysis.bench.ann import Contender, ann_contenders
from seenn.analysis.bench.figures import Bench, run_bench
from seenn.analysis.bench.growth import Growth, grow, grow_timesteps, step_of
from seenn.analysis.bench.layers import LayerLoss, layer_losses
from seenn.analysis.bench.machine import Machine, this_machine
from seenn.analysis.bench.plots import plot_growth, plot_speed
from seenn.analysis.bench.profile import SiteProfile, profile_sites
from seenn.analysis.bench.timing import Timing, alternate, slope

__all__ = [
    "Bench",
    "Contender",
    "Growth",
    "LayerLoss",
    "Machine",
    "SiteProfile",
    "Timing",
    "alternate",
    "ann_contenders",
    "grow",
    "grow_timesteps",
    "layer_losses",
    "plot_growth",
    "plot_speed",
    "profile_sites",
    "run_bench",
    "slope",
    "step_of",
    "this_machine",
]
