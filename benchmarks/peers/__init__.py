"""The detectors that ours is measured against, written anew and vectorised over streams.

Every one is online and causal: `update` takes one number per stream and returns one score per
stream, the higher the likelier a change, from what it has been given so far and nothing else. A
score, not an alarm: the benchmark sets each peer's threshold itself, at the same false alerts.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.peers.base import Floats, Peer, Restarting, Sampling
from benchmarks.peers.bocpd import Bocpd
from benchmarks.peers.charts import Cusum, Ewma, PageHinkley, Shewhart
from benchmarks.peers.focus import GaussianFocus, PoissonFocus
from benchmarks.peers.forecast import HoltWinters
from benchmarks.peers.netdata import Netdata
from benchmarks.peers.river_adwin import Adwin
from benchmarks.peers.splunk import Splunk
from benchmarks.peers.spot import Spot

__all__ = ["PEERS", "Floats", "Peer", "PoissonFocus", "Restarting", "Sampling"]

PEERS: Mapping[str, type[Peer]] = {
    "z score": Shewhart,
    "EWMA": Ewma,
    "CUSUM": Cusum,
    "FOCuS": GaussianFocus,
    "BOCPD": Bocpd,
    "SPOT": Spot,
    "ADWIN (river)": Adwin,
    "Page-Hinkley": PageHinkley,
    "Holt-Winters": HoltWinters,
    "Splunk rule": Splunk,
    "Netdata": Netdata,
}
"""By the name the tables show. PoissonFocus stands apart: it needs counts and their mean."""
