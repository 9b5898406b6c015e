"""What is added up per pair, and that it can be read as Prometheus reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from probes.histogram import bucket_of
from probes.identity.service import Service
from probes.window import OTHER, SIGNALS, Kind, Pair, Window
from tailrace.export import columns, pair_families, points, text
from tailrace.export.totals import FORGET_S, Snapshot, Totals
from tests.program.windows import WEB_API, Row, window
from tests.servers.prometheus import promtool

NONE = math.nan
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(snapshot: Snapshot, names: pair_families.Names = "tailrace") -> Found:
    """Return the samples as Prometheus reads them; both formats say the same, each series once."""
    plain = text.pairs(snapshot, names)
    opened = text.pairs(snapshot, names, openmetrics=True) + "# EOF\n"
    one, other = (
        [
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        ]
        for families in (read_text(plain), read_openmetrics(opened))
    )
    assert dict(one) == dict(other)
    assert len(dict(one)) == len(one)
    return dict(one)


def of(found: Found, name: str, pair: Pair = WEB_API, **more: str) -> float | None:
    labels = {
        "client": pair.client, "server": pair.server, "port": str(pair.port),
        "transport": pair.transport, **more,
    }  # fmt: skip
    return found.get((name, frozenset(labels.items())))


def totals(*windows: Window, most: int = 100) -> Totals:
    found = Totals(most)
    for each in windows:
        found.add(each)
    return found


def test_rates_times_widths_and_ratios_times_counts_are_totals() -> None:
    rows: list[Row] = [
        (WEB_API, "requests", 20.0, NONE),
        (WEB_API, "bytes_sent", 1000.0, NONE),
        (WEB_API, "connect_errors", 0.25, 8.0),
    ]
    causes = {2: {"refused": 1, "timed_out": 1}}
    first = window(rows, width=2.0, causes=causes)
    second = window(rows, time=first.time + 2.0, width=0.5, causes={2: {"cosmic_ray": 2}})
    found = read(totals(first, second).snapshot())
    assert of(found, "tailrace_pair_requests_total") == 50
    assert of(found, "tailrace_pair_sent_bytes_total") == 2500
    assert of(found, "tailrace_pair_connect_attempts_total") == 16
    assert of(found, "tailrace_pair_connect_errors_total") == 4
    by = "tailrace_pair_connect_errors_by_cause_total"
    assert of(found, by, cause="refused") == 1
    assert of(found, by, cause="timed_out") == 1
    assert of(found, by, cause="unknown") == 2
    assert of(found, by, cause="unreachable") is None
    assert of(found, "tailrace_pair_resets_total") is None  # never measured


def test_a_window_as_long_as_nobody_knows_counts_as_a_second() -> None:
    foreign = window([(WEB_API, "requests", 20.0, NONE)], width=NONE, nominal=NONE)
    assert of(read(totals(foreign).snapshot()), "tailrace_pair_requests_total") == 20


def test_histograms_add_up() -> None:
    durations_s = np.array([90e-6, 0.0024, 0.003, 0.02, 0.02, 12.0])
    buckets, numbers = np.unique(bucket_of(durations_s * 1e9), return_counts=True)
    row: Row = (WEB_API, "request_latency", 0.003, 6.0)
    one = window([row], histograms={0: dict(zip(buckets.tolist(), numbers.tolist(), strict=True))})
    found = read(totals(one, one).snapshot())
    name = "tailrace_pair_request_latency_seconds"
    upto = {le: of(found, f"{name}_bucket", le=le) for le in ("0.0001", "0.0025", "0.01", "10.0")}
    assert upto == {"0.0001": 2, "0.0025": 4, "0.01": 6, "10.0": 10}
    assert of(found, f"{name}_bucket", le="+Inf") == of(found, f"{name}_count") == 12
    sum_s = of(found, f"{name}_sum")
    assert sum_s == pytest.approx(2 * durations_s.sum(), rel=0.033)


def test_a_median_without_a_histogram_counts_for_all_its_samples() -> None:
    found = read(totals(window([(WEB_API, "request_latency", 0.003, 5.0)])).snapshot())
    name = "tailrace_pair_request_latency_seconds"
    assert of(found, f"{name}_bucket", le="0.0025") == 0
    assert of(found, f"{name}_bucket", le="0.005") == of(found, f"{name}_count") == 5
    assert of(found, f"{name}_sum") == pytest.approx(0.015, rel=0.033)


def test_round_trip_times_are_the_latest_until_they_are_old() -> None:
    one = window([(WEB_API, "rtt", 0.001, 3.0), (WEB_API, "requests", 1.0, NONE)])
    idle = [(WEB_API, "requests", 1.0, NONE)]
    table = totals(one, window([(WEB_API, "rtt", 0.002, 3.0)], time=one.time + 1))
    assert of(read(table.snapshot()), "tailrace_pair_rtt_seconds") == 0.002
    table.add(window(idle, time=one.time + 59))
    assert of(read(table.snapshot()), "tailrace_pair_rtt_seconds") == 0.002
    table.add(window(idle, time=one.time + 62))
    assert of(read(table.snapshot()), "tailrace_pair_rtt_seconds") is None


@pytest.mark.parametrize("names", pair_families.NAMES)
def test_every_signal_of_a_window_is_exported(names: pair_families.Names) -> None:
    for signal, kind in SIGNALS.items():
        if kind is Kind.PRESENCE:
            continue
        pair = WEB_API._replace(transport="udp" if signal in ("drops", "dns_errors") else "tcp")
        count = NONE if kind in (Kind.COUNT, Kind.SUM) else 10.0
        found = read(totals(window([(pair, signal, 0.5, count)])).snapshot(), names)
        assert found, signal


def busy(pairs: int, *, time: float = 1_760_000_000.0) -> Window:
    rows: list[Row] = [
        (Pair(f"client-{number}", "api", 80), "requests", 2.0, NONE) for number in range(pairs)
    ]
    return window(rows, time=time)


REST = Pair(OTHER, OTHER, 0, OTHER)


def test_above_the_cap_pairs_are_one_and_counted() -> None:
    table = totals(busy(7), most=3)
    found = read(table.snapshot())
    assert len(found) == 4
    assert of(found, "tailrace_pair_requests_total", REST) == 8
    assert table.folded == 4
    assert len(table) == 3
    assert sum(found.values()) == 14
    # Who has a row keeps it, however many others come
    table.add(busy(9, time=1_760_000_001.0))
    found = read(table.snapshot())
    first = Pair("client-0", "api", 80)
    assert of(found, "tailrace_pair_requests_total", first) == 4
    assert of(found, "tailrace_pair_requests_total", REST) == 20
    assert table.folded == 6


def test_the_rows_of_pairs_that_are_gone_are_given_to_others() -> None:
    table = totals(busy(5), most=3)
    late = 1_760_000_000.0 + FORGET_S + 2
    table.add(window([(Pair("new", "api", 80), "requests", 1.0, NONE)], time=late))
    found = read(table.snapshot())
    assert of(found, "tailrace_pair_requests_total", Pair("new", "api", 80)) == 1
    assert of(found, "tailrace_pair_requests_total", Pair("client-0", "api", 80)) is None
    assert of(found, "tailrace_pair_requests_total", REST) == 4  # what was counted stays counted
    assert table.folded == 0


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=30), st.integers(1, 6))
def test_totals_never_decrease_and_lose_nothing(present: list[list[int]], most: int) -> None:
    """Whatever comes and goes, as long as no row is given to another."""
    table, last, sent = Totals(most), dict[object, float](), 0
    for second, numbers in enumerate(present):
        rows: list[Row] = [
            (Pair(f"client-{n}", "api", 80), "requests", float(n), NONE) for n in set(numbers)
        ]
        sent += sum(set(numbers))
        table.add(window(rows, time=1_760_000_000.0 + second))
        now = read(table.snapshot())
        assert all(now[key] >= value for key, value in last.items())
        assert sum(now.values()) == sent
        assert len(now) <= most + 1
        last = dict(now)


HOSTILE = (
    'a"b', "a\\b", "a\nb", "a\tb", "", "\x00", "a\ud800b", "é\u202elive", "x" * 5000,
    'a",server="b"} 1\nup 1', "# EOF", "{}", "\u2028", "a\r\nb", "a\\", 'a\\"',
)  # fmt: skip


@pytest.mark.parametrize("names", pair_families.NAMES)
def test_hostile_names_make_no_other_series(names: pair_families.Names) -> None:
    rows: list[Row] = []
    for name in HOSTILE:
        pair = Pair(name, name[::-1], 1, "tcp")
        rows += [
            (pair, "requests", 1.0, NONE),
            (pair, "bytes_sent", 1.0, NONE),
            (pair, "request_latency", 0.01, 1.0),
        ]
    snapshot = totals(window(rows)).snapshot()
    found = read(snapshot, names)
    assert {name.split("_")[0] for name, _ in found} <= {"tailrace", "tcp"}
    values = {value for _, labels in found for _, value in labels}
    assert max(map(len, values)) <= 120
    assert not any(ord(character) < 32 for value in values for character in value)
    total = sum(value for (name, _), value in found.items() if name.endswith("requests_total"))
    assert total == len(HOSTILE)
    promtool("check", "metrics", stdin=text.pairs(snapshot, names).encode())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=8))
def test_any_names_can_be_read_back(names: list[tuple[str, str]]) -> None:
    rows: list[Row] = [(Pair(a, b, 1), "requests", 1.0, NONE) for a, b in dict.fromkeys(names)]
    found = read(totals(window(rows)).snapshot())
    assert sum(found.values()) == len(rows)


def test_names_that_become_one_share_a_row() -> None:
    rows: list[Row] = [(Pair(f"a{end}", "b", 1), "requests", 1.0, NONE) for end in ("", "\n", "\0")]
    table = totals(window(rows), window(rows, time=1_760_000_001.0))
    assert list(read(table.snapshot()).values()) == [6]
    assert len(table) == 1


# The other vocabulary


def their(found: Found) -> Mapping[str, list[tuple[Mapping[str, str], float]]]:
    by_name: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for (name, labels), value in found.items():
        by_name.setdefault(name, []).append((dict(labels), value))
    return by_name


def test_flowmill_has_bytes_by_direction_and_ends_with_what_is_known_of_them() -> None:
    services = {"web": Service("web", "kubernetes", "shop", "web:1")}
    table = Totals(10, services=lambda: services)
    table.add(
        window(
            [
                (WEB_API, "bytes_sent", 10.0, NONE),
                (WEB_API, "bytes_received", 30.0, NONE),
                (WEB_API, "connections", 2.0, NONE),
                (WEB_API, "connect_errors", 0.5, 4.0),
                (WEB_API, "resets", 0.5, 4.0),
                (WEB_API, "retransmits", 0.01, 100.0),
                (WEB_API, "rtt", 0.001, 5.0),
                (WEB_API, "requests", 7.0, NONE),
            ],
            causes={3: {"timed_out": 2}, 4: {"by_client": 1, "timed_out": 1}},
        )
    )
    found = their(read(table.snapshot(), "opentelemetry"))
    ends = {
        (labels["source_workload_name"], labels["dest_workload_name"]): value
        for labels, value in found["tcp_bytes_total"]
    }
    assert ends == {("web", "api"): 10, ("api", "web"): 30}
    for labels, _ in found["tcp_bytes_total"]:
        side = "source" if labels["source_workload_name"] == "web" else "dest"
        assert labels[f"{side}_namespace_name"] == "shop"
        assert labels[f"{side}_resolution_type"] == "kubernetes"
        assert labels["server_port"] == "8080"
        assert labels["network_transport"] == "tcp"
    single = {name: rows[0][1] for name, rows in found.items() if len(rows) == 1}
    assert single["tcp_new_sockets_total"] == 2
    assert single["tcp_syn_timeouts_total"] == 2
    assert single["tcp_resets_total"] == 1
    assert single["tcp_packets_total"] == 100
    assert single["tcp_retrans_total"] == 1
    assert single["tcp_rtt_average_seconds"] == 0.001
    # What has no name there keeps ours, and what has one is not told twice
    assert single["tailrace_pair_requests_total"] == 7
    assert "tailrace_pair_sent_bytes_total" not in found
    assert "tailrace_pair_rtt_seconds" not in found


def test_flowmill_has_udp_and_dns_and_no_unix_sockets() -> None:
    dns, unix = Pair("web", "resolver", 53, "udp"), Pair("web", "helper", 0, "unix")
    rows: list[Row] = [
        (dns, "bytes_sent", 5.0, NONE),
        (dns, "connect_errors", 0.0, 10.0),
        (dns, "drops", 0.1, 10.0),
        (dns, "dns_errors", 0.2, 10.0),
        (dns, "dns_latency", 0.004, 8.0),
        (unix, "bytes_sent", 6.0, NONE),
    ]
    found = their(
        read(totals(window(rows, causes={3: {"timed_out": 2}})).snapshot(), "opentelemetry")
    )
    assert found["udp_bytes_total"][0][1] == 5
    assert found["udp_packets_total"][0][1] == 10
    assert found["udp_drops_total"][0][1] == 1
    assert found["dns_responses_total"][0][1] == 8
    assert found["dns_timeouts_total"][0][1] == 2
    mean_s = found["dns_client_duration_average_seconds"][0][1]
    assert mean_s == pytest.approx(0.004, rel=0.033)
    [(labels, value)] = found["tailrace_pair_sent_bytes_total"]
    assert (labels["network_transport"], value) == ("unix", 6)


def test_what_fires_is_shown_with_its_pair() -> None:
    snapshot = totals(window([(WEB_API, "requests", 1.0, NONE)])).snapshot()
    gone = WEB_API._replace(client="gone")
    fires = ((WEB_API, "requests", "up"), (WEB_API, "requests", "up"), (gone, "requests", "up"))
    found = read(snapshot._replace(firing=fires))
    assert of(found, "tailrace_pair_firing", signal="requests", direction="up") == 1
    assert len(found) == 2


def test_bounds_are_met_within_what_the_buckets_can_tell() -> None:
    assert list(columns.BOUNDS_S) == sorted(columns.BOUNDS_S)
    for at, bound in enumerate(columns.BOUNDS_S):
        below = totals(window([(WEB_API, "request_latency", bound / 1.033, 1.0)]))
        above = totals(window([(WEB_API, "request_latency", bound * 1.033, 1.0)]))
        assert below.snapshot().buckets[0, 0, : at + 1].sum() == 1
        assert above.snapshot().buckets[0, 0, : at + 1].sum() == 0


def test_labels_are_as_many_as_their_names() -> None:
    snapshot = totals(busy(1)).snapshot()
    for names in pair_families.NAMES:
        labels = points.labels(snapshot.rows[0], names)  # type: ignore[arg-type]
        assert len(labels) == len(points.PAIR_LABELS[names])
