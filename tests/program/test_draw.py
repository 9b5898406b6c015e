"""Pictures: what is in them, and that nothing from outside gets out of its place."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as Tree

import numpy as np
import pytest

from probes.window import EVERY, Pair
from tailrace.draw import chart, flags, layers, scale, service_map, style
from tailrace.draw.places import place
from tailrace.draw.service_map import Edge, Root
from tailrace.draw.sparkline import sparkline
from tests.alerts.examples import T0, finding, incident

HOSTILE = '</text><script>alert("x")</script>&\x1b[31m\x00]]>'
SVG = "{http://www.w3.org/2000/svg}"

SHOP = [
    Edge(client="external", server="frontend", traffic=200.0),
    Edge(client="frontend", server="cart", traffic=60.0, severity="warning", label="latency 3.1x"),
    Edge(client="frontend", server="catalog", traffic=120.0),
    Edge(client="cart", server="redis", traffic=150.0, severity="critical", label="latency 5.2x"),
    Edge(client="catalog", server="postgres", traffic=240.0),
    Edge(client="checkout", server="cart", traffic=12.0),
]


def parsed(picture: str) -> Tree.Element:
    return Tree.fromstring(picture)


def texts(picture: str, css: str) -> list[str]:
    found = parsed(picture).iter(f"{SVG}text")
    return [each.text or "" for each in found if css in (each.get("class") or "").split()]


def edge(picture: str, client: str, server: str) -> Tree.Element:
    [found] = [
        each
        for each in parsed(picture).iter(f"{SVG}g")
        if (each.get("data-client"), each.get("data-server")) == (client, server)
    ]
    return found


def width_of(drawn: Tree.Element) -> float:
    return next(float(p.attrib["stroke-width"]) for p in drawn.iter() if "stroke-width" in p.attrib)


def box(picture: str, service: str) -> dict[str, float]:
    [group] = [g for g in parsed(picture).iter(f"{SVG}g") if g.get("data-service") == service]
    [rect] = group.iter(f"{SVG}rect")
    return {name: float(rect.attrib[name]) for name in ("x", "y", "width", "height")}


def a_chart(**changes: object) -> chart.Chart:
    time = T0 + 10.0 * np.arange(400)
    line = np.where(time < T0 + 3000, 0.002, 0.010)
    base = chart.Chart(
        title="request latency of cart -> redis",
        desc="it rose",
        unit="s",
        time=time,
        step_s=10.0,
        line=line,
        since=T0,
        until=T0 + 4000,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_a_map_goes_from_caller_to_callee_and_flags_what_is_flagged() -> None:
    picture = service_map.svg(SHOP, roots={"redis": Root(severity="critical", label="root, 81 %")})
    at = {name: box(picture, name)["x"] for name in ("external", "frontend", "cart", "redis")}
    assert at["external"] < at["frontend"] < at["cart"] < at["redis"]
    assert edge(picture, "cart", "redis").get("class") == "edge critical"
    assert edge(picture, "catalog", "postgres").get("class") == "edge"
    assert {"latency 5.2x", "latency 3.1x"} <= {t.text for t in parsed(picture).iter(f"{SVG}text")}
    assert texts(picture, "rootmark") == ["root, 81 %"]
    busy, idle = (edge(picture, *e) for e in (("catalog", "postgres"), ("checkout", "cart")))
    assert width_of(busy) > width_of(idle)
    desc = parsed(picture).findtext(f"{SVG}desc") or ""
    assert "redis: root, 81 %" in desc
    assert "cart to redis: critical, latency 5.2x" in desc
    assert service_map.svg(reversed(SHOP), roots={"redis": Root(severity="critical",
                           label="root, 81 %")}) == picture  # fmt: skip


def test_boxes_do_not_lie_on_each_other_and_stay_within_the_map() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        edges = [
            (f"service-{a}", f"service-{b}") for a, b in rng.integers(0, 40, (70, 2)) if a != b
        ]
        places = place(edges, wide={})
        boxes = list(places.boxes.values())
        for number, one in enumerate(boxes):
            assert one.x >= 0
            assert one.y >= 0
            assert one.x + one.width <= places.width
            assert one.y + one.height <= places.height
            assert not any(one.overlaps(other) for other in boxes[number + 1 :])
        for client, server in edges:
            first, *_, last = places.points(client, server)
            assert places.boxes[client].x <= first.x <= sum(places.boxes[client][0:4:2])
            assert places.boxes[server].x <= last.x <= sum(places.boxes[server][0:4:2])


def test_cycles_are_laid_out() -> None:
    found = layers.lay_out("abc", [("a", "b"), ("b", "c"), ("c", "a"), ("b", "b")])
    assert [{key for key in each if not layers.is_waypoint(key)} for each in found.order] == [
        {"a"}, {"b"}, {"c"},
    ]  # fmt: skip
    assert found.back == {("c", "a")}
    assert found.way["c", "a"][0] == "a"
    two = service_map.svg([Edge(client="a", server="b"), Edge(client="b", server="a")])
    assert edge(two, "a", "b") is not None
    assert edge(two, "b", "a") is not None
    # one to itself is drawn only when something is wrong with it
    itself = Edge(client="a", server="a", severity="warning", label="resets 4.0 %")
    assert "resets 4.0 %" in service_map.svg([itself])
    assert "data-client" not in service_map.svg([dataclasses.replace(itself, severity="")])


def test_above_sixty_services_what_is_flagged_and_the_busiest_are_drawn() -> None:
    edges = [
        Edge(client=f"client-{i}", server=f"server-{i % 7}", traffic=float(i)) for i in range(300)
    ]
    edges[5] = dataclasses.replace(edges[5], severity="critical", label="silent")
    picture = service_map.svg(edges)
    services = {g.get("data-service") for g in parsed(picture).iter(f"{SVG}g")} - {None}
    assert len(services) == service_map.MOST_SERVICES
    assert {"client-5", "server-5", "client-299", "client-12"} <= services
    assert "client-1" not in services
    assert texts(picture, "note") == [
        "60 of 307 services are drawn: those next to what is flagged, and the busiest; "
        "from caller to callee, thicker with more traffic"
    ]
    assert len(texts(service_map.svg(edges[:50]), "note")[0].split(";")) == 1


def test_a_map_of_nothing_says_so() -> None:
    assert texts(service_map.svg([]), "note") == ["no service pairs"]


@pytest.mark.parametrize("name", [HOSTILE, "*", "a b", "日本語" * 20, "x" * 500, "'\"><a href=x>"])
def test_names_stay_text(name: str) -> None:
    edges = [Edge(client=name, server="api", severity="critical", label=name, detail=name,
                  href="#" + name)]  # fmt: skip
    pictures = [
        service_map.svg(edges, roots={name: Root(severity="critical", label=name)}),
        chart.svg(a_chart(title=name, desc=name, name=name, unit=name, marks=[
            chart.Mark(at=T0 + 9, kind="trigger", label=name)])),
    ]  # fmt: skip
    allowed = {"svg", "title", "desc", "g", "path", "rect", "text", "a", "line"}
    for picture in pictures:
        found = {each.tag.removeprefix(SVG) for each in parsed(picture).iter()}
        assert found <= allowed
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", picture)
        assert not any(k.startswith("on") for e in parsed(picture).iter() for k in e.attrib)
    assert HOSTILE not in "".join(pictures)


def test_pictures_have_classes_and_no_colours() -> None:
    drawn = chart.svg(a_chart(band=chart.Band(low=0.001, high=0.003, until=T0, label="b")))
    drawn += service_map.svg(SHOP)
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(|style=", drawn)
    classes = {c for found in re.findall(r'class="([^"]+)"', drawn) for c in found.split()}
    assert all(f".{name}" in style.CSS for name in classes - {"node", "edge"})


def test_a_chart_shows_line_band_onset_and_cause() -> None:
    drawn = chart.svg(
        a_chart(
            band=chart.Band(low=0.0018, high=0.0022, until=T0 + 3000, label="90 % of the hour"),
            low=np.full(400, 0.001),
            high=np.full(400, 0.02),
            marks=[
                chart.Mark(at=T0 + 3000, kind="onset", label="began"),
                chart.Mark(at=T0 + 2500, kind="trigger", label="redis was deployed"),
                chart.Mark(at=T0 + 9999, kind="ended", label="not in this time"),
            ],
        )
    )
    assert texts(drawn, "tick")[:5] == ["0 ms", "5 ms", "10 ms", "15 ms", "20 ms"]
    assert texts(drawn, "onset") == ["began"]
    assert texts(drawn, "trigger") == ["redis was deployed"]
    assert "not in this time" not in drawn
    assert texts(drawn, "unit") == ["UTC"]
    by_class = {each.get("class"): each for each in parsed(drawn).iter()}
    band, onset = by_class["band"], by_class["mark onset"]
    assert float(band.attrib["x"]) + float(band.attrib["width"]) == pytest.approx(
        float(onset.attrib["x1"]), abs=0.2
    )
    heights = re.findall(r" (\d+\.?\d*)(?=L|$)", by_class["line"].attrib["d"])
    assert float(heights[0]) > float(heights[-1])  # it rose: y counts from the top
    assert by_class["shade"].attrib["d"].endswith("Z")


def test_gaps_stay_gaps_and_nothing_is_said() -> None:
    line = np.full(400, np.nan)
    line[[3, 4, 5, 90]] = 0.001
    drawn = parsed(chart.svg(a_chart(line=line)))
    assert len([e for e in drawn.iter() if e.get("class") == "line"]) == 2
    assert "no values in this time" in chart.svg(a_chart(line=np.full(400, np.nan)))


def test_what_is_expected_is_ninety_percent_of_the_hour_before() -> None:
    time = T0 + 10.0 * np.arange(1000)
    line = np.arange(1000, dtype=float)
    found = chart.expected(line, time, onset=T0 + 5000.0)
    assert found is not None
    # the 360 values from 140 to 499
    assert found.tolist() == pytest.approx([140 + 0.05 * 359, 140 + 0.95 * 359])
    assert chart.expected(line, time, onset=T0 + 40.0) is None
    assert chart.expected(np.full(1000, np.nan), time, onset=T0 + 5000.0) is None


@pytest.mark.parametrize(
    ("top", "unit", "first", "last"),
    [
        (0.0041, "s", "1 ms", "5 ms"),
        (3.2, "s", "1 s", "4 s"),
        (0.00007, "s", "20 µs", "80 µs"),
        (0.62, "ratio", "20 %", "80 %"),
        (12_300.0, "1/s", "5,000 /s", "15,000 /s"),
        (2_000_000.0, "B/s", "0.5 MB/s", "2 MB/s"),
        (7.0, "", "2", "8"),
    ],
)
def test_ticks_of_values(top: float, unit: str, first: str, last: str) -> None:
    ticks = scale.value_ticks(top, unit)
    assert ticks[0][0] == 0.0
    assert (ticks[1][1], ticks[-1][1]) == (first, last)
    assert ticks[-1][0] >= top * (1 - 1e-9)


def test_ticks_of_times_are_round_and_in_utc() -> None:
    midnight = 1_767_312_000.0  # 2026-01-02T00:00:00Z
    assert [text for _, text in scale.time_ticks(midnight - 1800, midnight + 3600)] == [
        "Jan 1, 23:30", "23:45", "Jan 2, 00:00", "00:15", "00:30", "00:45", "01:00",
    ]  # fmt: skip
    assert [text for _, text in scale.time_ticks(midnight, midnight + 5 * 86_400)][:2] == [
        "Jan 2", "Jan 3",
    ]  # fmt: skip
    assert scale.time_ticks(midnight + 1.1, midnight + 1.5) == []
    assert len(scale.time_ticks(midnight, midnight + 400 * 86_400)) <= 8


def test_a_sparkline_rises_from_nothing() -> None:
    assert sparkline(np.array([0.0, 1.0, np.nan, 7.0])) == "▁▂ █"
    assert sparkline(np.repeat([1.0, 7.0], 50), width=4) == "▂▂██"
    assert sparkline(np.zeros(3)) == "▁▁▁"
    assert sparkline(np.full(3, np.nan)) == ""
    assert sparkline(np.empty(0)) == ""


def test_incidents_flag_edges_and_roots() -> None:
    slow = finding(pair=Pair("web", "api", 8080))
    every = finding(pair=Pair(EVERY, "db", 5432), signal="connect_errors", unit="ratio",
                    before=0.0, after=0.4, ratio=None)  # fmt: skip
    found = incident(slow, every)
    traffic = {Pair("api", "db", 5432): 5.0, Pair("cron", "db", 5432): 1.0,
               Pair("api", "db", 9999): 1.0, Pair("web", "api", 8080): 9.0}  # fmt: skip
    edges = flags.edges_of(traffic, [found], links={found.id: "#there"})
    assert [(e.client, e.traffic, e.severity, e.label, e.href) for e in edges] == [
        ("api", 5.0, "critical", "failed 40.0 %", "#there"),
        ("api", 1.0, "", "", ""),
        ("cron", 1.0, "critical", "failed 40.0 %", "#there"),
        ("web", 9.0, "warning", "latency 9.7x", "#there"),
    ]
    [(name, root)] = flags.roots_of([found]).items()
    assert name == found.root.service
    assert root.label == f"root, {100 * found.root.score:.0f} %"
    assert flags.label(dataclasses.replace(slow, direction="gone")) == "silent"
