"""A real Prometheus scrapes a real loop: every query of the dashboard and the rules has data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tailrace.export.settings import ExportSettings, OtlpSettings
from tests.program import exporting
from tests.servers import prometheus
from tests.servers.otlp import OtlpServer
from tests.servers.prometheus import Prometheus
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
    assert values["client"] == ["api", "web-1", "web-2", "web-3"]
    assert values["server"] == ["api", "helper", "resolver"]


@pytest.mark.parametrize("rule", RULE_LIST, ids=lambda rule: rule.get("alert") or rule["record"])
def test_the_query_of_a_rule_has_data(scene: Scene, rule: dict[str, Any]) -> None:
    # An alert's has none while all is well: whether it holds is asked instead
    query = re.sub(r" (>|==) ", r" \1 bool ", rule["expr"]) if "alert" in rule else rule["expr"]
    scene.prometheus.wait_for(lambda: scene.prometheus.query(query), what=query, within_s=10)


def test_the_rules_are_evaluated(scene: Scene) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for rule in scene.prometheus.rules() if rule["health"] != "unknown"]

    scene.prometheus.wait_for(lambda: len(rules()) == len(RULE_LIST), what="all rules")
    assert [rule for rule in rules() if rule["health"] != "ok"] == []
    firing = {rule["name"] for rule in rules() if rule.get("state") == "firing"}
    assert "TailraceWarningIncident" in firing
    assert not firing & {"TailraceDown", "TailraceMessagesDropped", "TailraceOtlpDrops"}
