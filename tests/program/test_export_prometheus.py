"""A real Prometheus scrapes a real loop: every query of the dashboard and the rules has data."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from tailrace.daemon import Daemon
from tailrace.export import health_families, pair_families
from tailrace.export.exporter import Exporter
from tailrace.export.settings import ExportSettings, OtlpSettings
from tests.program import exporting
from tests.program.listening import Listener
from tests.program.windows import traffic
from tests.servers import prometheus
from tests.servers.otlp import OtlpServer
from tests.servers.programs import free_port
from tests.servers.prometheus import Prometheus, promtool
from tests.servers.webhook import WebhookServer

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs/prometheus/tailrace.rules.yml"
DASHBOARD = json.loads((ROOT / "docs/grafana/tailrace.json").read_text())
RULE_LIST = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]


class Scene(NamedTuple):
    daemon: exporting.Running
    prometheus: Prometheus
    otlp: OtlpServer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("export")
    file = exporting.recorded(directory)
    with OtlpServer() as otlp, WebhookServer(secret=None) as hook:
        settings = ExportSettings(
            listen=("127.0.0.1", 0), otlp=OtlpSettings(endpoint=otlp.base_url, interval_s=1.0)
        )
        with (
            exporting.running(file, directory / "state", settings, hook=hook.url) as daemon,
            prometheus.running(
                directory / "prometheus", target=f"127.0.0.1:{daemon.port}", rules=RULES
            ) as scraper,
        ):
            enough = f"count_over_time(tailrace_windows_total[1m]) >= 5 and {TOLD}"
            scraper.wait_for(lambda: scraper.query(enough), what="five scrapes of an incident")
            yield Scene(daemon, scraper, otlp)


TOLD = 'tailrace_windows_total and on (instance) tailrace_deliveries_total{result="sent"} > 0'


def queries(of: Any) -> Iterator[str]:
    """Yield every PromQL expression of a dashboard, wherever it stands."""
    if isinstance(of, dict):
        if isinstance(of.get("expr"), str):
            yield of["expr"]
        for each in of.values():
            yield from queries(each)
    elif isinstance(of, list):
        for each in of:
            yield from queries(each)


def filled(query: str) -> str:
    """Return a query as Grafana sends it, all variables at their defaults."""
    query = re.sub(r"\$(client|server|instance)", ".*", query)
    return query.replace("$__rate_interval", "10s")


@pytest.mark.parametrize("query", sorted(set(queries(DASHBOARD))))
def test_a_query_of_the_dashboard_has_data(scene: Scene, query: str) -> None:
    asked = filled(query)
    assert "$" not in asked
    if asked.endswith("[1m]) > 0"):  # an annotation: where there is something to annotate
        asked = asked.replace("[1m]", "[1h]").replace(" > 0", " >= 0")
    found = scene.prometheus.query(asked)
    assert found
    assert any(each["value"][1] != "NaN" for each in found)


def test_its_variables_have_values(scene: Scene) -> None:
    found = {
        each["name"]: each["query"]["query"]
        for each in DASHBOARD["templating"]["list"]
        if each["type"] == "query"
    }
    assert set(found) == {"instance", "client", "server"}
    values = {}
    for name, query in found.items():
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()  # type: ignore[union-attr]
        values[name] = scene.prometheus.label_values(label, filled(selector))
    assert values["client"] == ["api", exporting.ODD, "web-1", "web-2", "web-3"]
    assert values["server"] == ["api", "helper", "resolver"]


@pytest.mark.parametrize("rule", RULE_LIST, ids=lambda rule: rule.get("alert") or rule["record"])
def test_the_query_of_a_rule_has_data(scene: Scene, rule: dict[str, Any]) -> None:
    # An alert's has none while all is well: whether it holds is asked instead
    query = re.sub(r" (>|==) ", r" \1 bool ", rule["expr"]) if "alert" in rule else rule["expr"]
    scene.prometheus.wait_for(lambda: scene.prometheus.query(query), what=query)


def test_the_rules_are_evaluated(scene: Scene) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for rule in scene.prometheus.rules() if rule["health"] != "unknown"]

    scene.prometheus.wait_for(lambda: len(rules()) == len(RULE_LIST), what="all rules")
    assert [rule for rule in rules() if rule["health"] != "ok"] == []
    firing = {rule["name"] for rule in rules() if rule.get("state") == "firing"}
    assert "TailraceWarningIncident" in firing
    assert not firing & {"TailraceDown", "TailraceMessagesDropped", "TailraceOtlpDrops"}


NOT_SIMULATED = re.compile("accept|_read_|rtt_min|by_cause")


def test_what_is_scraped_is_what_is_documented(scene: Scene) -> None:
    found = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        if name.endswith(("seconds_bucket", "seconds_count", "seconds_sum"))
        else name
        for name in scene.prometheus.label_values("__name__", '{job="tailrace"}')
    }
    ours = {name for name in found if name.startswith("tailrace_")}
    families = [*pair_families.families("tailrace"), *health_families.FAMILIES]
    exported = {family.exposed for family in families}
    assert ours <= exported
    simulated = {name for name in exported if not NOT_SIMULATED.search(name)}
    assert simulated - ours == set()


def test_the_exposition_is_as_promtool_wants_it(scene: Scene) -> None:
    url = f"http://127.0.0.1:{scene.daemon.port}/metrics"
    promtool("check", "metrics", stdin=httpx.get(url).content)
    promtool("check", "rules", str(RULES))
    [target] = scene.prometheus.targets()
    assert (target["health"], target["lastError"]) == ("up", "")


def test_prometheus_counts_what_the_loop_counts(scene: Scene) -> None:
    """What it has read is of some moment: between what was counted before and after."""
    query = 'tailrace_pair_requests_total{client="web-2"}'
    before = scene.prometheus.value(query)
    text = scene.daemon.exporter.exposition()[0].decode()
    line = next(each for each in text.splitlines() if 'requests_total{client="web-2"' in each)
    assert before is not None
    assert 10_000 < before <= float(line.rpartition(" ")[2])


def test_otlp_has_the_same_metrics(scene: Scene) -> None:
    names = set(scene.otlp.points())
    wanted = {
        family.name
        for family in [*pair_families.families("tailrace"), *health_families.FAMILIES]
        if not NOT_SIMULATED.search(family.name)
    }
    assert wanted - names == set()
    assert scene.otlp.wrong == []
    assert not [said for said in scene.daemon.voice.warnings if "OTLP" in said]


def test_a_restart_is_one_reset_to_prometheus(tmp_path: Path) -> None:
    """What was counted before it and after it adds up."""
    port = free_port()
    with prometheus.running(tmp_path / "p", target=f"127.0.0.1:{port}", rules=RULES) as scraper:
        for seconds in (60, 40):
            with Store.open(tmp_path) as store:
                exporter = Exporter(
                    ExportSettings(listen=("127.0.0.1", port)), store=store, warn=print, note=print
                )
                exporter.start()
                Daemon(
                    detector=Detector(DetectorSettings()),
                    store=store,
                    voice=Listener(),
                    exporter=exporter,
                ).run(traffic(seconds))
                counted = f"tailrace_windows_total == {seconds}"
                scraper.wait_for(functools.partial(scraper.query, counted), what=counted)
                exporter.stop()
        counters = [
            name
            for name in scraper.label_values("__name__", '{job="tailrace"}')
            if name.startswith("tailrace_") and name.endswith(("_total", "_count", "_bucket"))
        ]
        assert len(counters) >= 10
        resets = {name: scraper.value(f"max(resets({name}[5m]))") for name in counters}
        assert resets["tailrace_windows_total"] == resets["tailrace_pair_requests_total"] == 1
        assert max(number or 0 for number in resets.values()) == 1
        # All that the second counted is an increase, as what it began with was nothing
        grown = scraper.value("increase(tailrace_pair_requests_total[5m])")
        after = scraper.value("last_over_time(tailrace_pair_requests_total[5m])")
        assert grown is not None
        assert after is not None
        assert grown >= 0.99 * after > 0


ALERTS = [rule for rule in RULE_LIST if "alert" in rule]
FIRES = {
    "TailraceCriticalIncident": (
        'tailrace_incidents{instance="i",state="firing",severity="critical",suppressed="false"}',
        "1x30",
    ),
    "TailraceWarningIncident": (
        'tailrace_incidents{instance="i",state="firing",severity="warning",suppressed="false"}',
        "1x30",
    ),
    "TailraceDown": ('up{job="tailrace",instance="i"}', "0x30"),
    "TailraceStalled": ('tailrace_last_window_time_seconds{instance="i"}', "0x30"),
    "TailraceNotStoring": ('tailrace_store_failing{instance="i"}', "1x30"),
    "TailraceReceiverFailing": ('tailrace_receiver_failing{instance="i"}', "1x30"),
    "TailraceMessagesWait": ('tailrace_outbox_oldest_seconds{instance="i"}', "1000x30"),
    "TailraceMessagesDropped": (
        'tailrace_deliveries_total{instance="i",result="dropped"}',
        "0+1x30",
    ),
    "TailraceLosesSamples": ('tailrace_lost_samples_total{instance="i"}', "0+9x30"),
    "TailraceMeasuresLess": ('tailrace_measurement_level{instance="i"}', "1x90"),
    "TailraceThresholdsRaised": ('tailrace_calibration_raised{instance="i"}', "2x90"),
    "TailraceOtlpDrops": (
        'tailrace_otlp_dropped_total{instance="i",reason="rejected"}',
        "0+1x30",
    ),
    "TailracePairsFolded": ('tailrace_pairs_folded{instance="i"}', "3x60"),
    "TailraceOverBudget": ('tailrace_overhead_ratio{instance="i"}', "0.02x60"),
}
BESIDE = {
    "TailracePairsFolded": ('tailrace_export_pairs_folded{instance="i"}', "0x60"),
    "TailraceOverBudget": ('tailrace_overhead_budget_ratio{instance="i"}', "0.005x60"),
}


def test_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    """By promtool's own tests of rules: at the end of the series, and not when all is well."""
    assert set(FIRES) == {rule["alert"] for rule in ALERTS}
    tests = []
    for name, (series, values) in FIRES.items():
        minutes = int(re.search(r"x(\d+)$", values)[1])  # type: ignore[index]
        given = [{"series": series, "values": _minutes(values)}]
        if name in BESIDE:
            given.append({"series": BESIDE[name][0], "values": _minutes(BESIDE[name][1])})
        query = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
        tests.append(
            {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [
                    {
                        "expr": f"count({query})",
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    },
                ],
            }
        )
    well = [
        {"series": series, "values": "1+0x90" if name == "TailraceDown" else "0+0x90"}
        for name, (series, _) in FIRES.items()
        if name != "TailraceStalled"
    ]
    well.append({"series": BESIDE["TailraceOverBudget"][0], "values": "0.005+0x90"})
    silence = {"expr": "count(ALERTS)", "eval_time": "90m", "exp_samples": []}
    tests.append({"interval": "1m", "input_series": well, "promql_expr_test": [silence]})
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", str(file))


def _minutes(values: str) -> str:
    """Return promtool's notation; a value that stays is written as growing by nothing."""
    return values if "+" in values else values.replace("x", "+0x")
