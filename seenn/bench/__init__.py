"""How fast a spiking network is, beside the ANN that it came from, measured in alternation on this machine."""

from seenn.bench.ann import Contender, ann_contenders
from seenn.bench.figures import Bench, run_bench
from seenn.bench.profile import SiteProfile, profile_sites
from seenn.bench.timing import Timing, alternate, slope

__all__ = [
    "Bench",
    "Contender",
    "SiteProfile",
    "Timing",
    "alternate",
    "ann_contenders",
    "profile_sites",
    "run_bench",
    "slope",
]
