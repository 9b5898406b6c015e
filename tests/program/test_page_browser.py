"""The live page as a person has it: in a real browser, with a keyboard, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from alerts import silences
from alerts.incident import Incident
from tailrace.simulation.scenario import Pairs
from tests.support.browser import browser, resize
from tests.support.page_scene import Scene, scene

HOSTILE = Pairs(client="<script>alert(1)</script>", server='"><img src=x onerror=alert(1)>')

# What is live may be made anew between two calls, so each look at the page is one call.
KEY = """
const key = (e) => [e.tagName, e.id, e.name, e.getAttribute("href"), e.value,
                    e.getAttribute("aria-label"), e.textContent.trim()].join(" ");
"""
TABBABLE = f"""{KEY}
return [...document.querySelectorAll('a[href], button, input, select, [tabindex="0"]')]
  .filter((e) => e.type !== "hidden" && e.getClientRects().length).map(key)
"""
FOCUSED = f"{KEY} return key(document.activeElement)"
NAMELESS = """
return [...document.querySelectorAll("a, button, input:not([type=hidden]), select, [role=region]")]
  .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
  .map((e) => e.outerHTML)
"""
WIDER = """
return [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .unseen"))
  .map((e) => e.outerHTML.slice(0, 200))
"""
CHART = """
const changed = document.querySelector("figure.changed");
const of = (css, name) => changed.querySelector(css).getAttribute(name);
return {said: changed.innerText, onset: +of(".mark.onset", "x1"), low: +of(".band", "y"),
        line: of(".line", "d"), on: changed.querySelectorAll(".band-on").length};
"""
GROUND = """
const colour = getComputedStyle(document.querySelector("header")).backgroundColor;
return colour.match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0);
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A shop in which all is well."""
    directory = tmp_path_factory.mktemp("page") / "state"
    with scene(directory, before_s=260, more=[HOSTILE]) as made:
        made.feed(148)
        yield made


@pytest.fixture(scope="module")
def page(shop: Scene) -> Iterator[Chrome]:
    with browser() as driver:
        driver.get(shop.page.url)
        yield driver


@pytest.fixture(scope="module")
def raised(shop: Scene, page: Chrome) -> Incident:
    """What people were told of the shop's database, as soon as they were; the page was open."""
    page.execute_script("window.openedBefore = true")
    shop.feed_until(lambda: bool(shop.incidents()))
    shop.feed(2)
    return shop.incidents()[0]


def wait(page: Chrome, condition: Callable[[Chrome], object], what: str) -> None:
    # between two pages there is nothing to ask
    ignored = (WebDriverException,)
    WebDriverWait(page, 120, ignored_exceptions=ignored).until(condition, what)


def go(page: Chrome, shop: Scene, path: str) -> None:
    page.get(shop.page.url.partition("?")[0] + path)


def text(page: Chrome, css: str = "main") -> str:
    return str(page.execute_script(f"return document.querySelector('{css}').innerText"))


def there(css: str) -> Callable[[Chrome], object]:
    return lambda page: page.execute_script(f"return !!document.querySelector('{css}')")


def enter(page: Chrome, css: str) -> None:
    """Press Enter on something, once it is there."""
    wait(page, there(css), css)
    page.execute_script(f"document.querySelector('{css}').focus()")
    press(page, Keys.ENTER)


def path_of_pair(client: str) -> str:
    return f"pair?client={client}&server=postgres&port=5432"


def press(page: Chrome, *keys: str) -> None:
    ActionChains(page).send_keys(*keys).perform()


def quiet(page: Chrome) -> None:
    """The browser had nothing to complain of: a script, a style, a request."""
    assert page.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_an_incident_appears_by_itself(
    shop: Scene, page: Chrome, request: pytest.FixtureRequest
) -> None:
    """Within two windows: no more are fed before it is there."""
    assert "Nothing is wrong" in text(page)
    wait(page, lambda p: text(p, "#connection") == "live", "live")
    raised: Incident = request.getfixturevalue("raised")
    wait(page, there(f"#open-{raised.id}"), "the incident")
    assert page.execute_script("return window.openedBefore") is True
    assert text(page, "#culprit").split() == ["Probable", "cause", "postgres"]
    wait(page, there(".map .node.root[data-service=postgres]"), "the root on the map")
    wait(page, there(".map .edge.warning[data-server=postgres]"), "a flagged edge")
    wait(page, there("[data-list=pairs] tr.warning"), "a pair that is marked")
    quiet(page)


def test_the_map_leads_to_the_incident(shop: Scene, page: Chrome, raised: Incident) -> None:
    go(page, shop, "")
    enter(page, ".map a")
    wait(page, lambda p: p.current_url.endswith(f"/incidents/{raised.id}"), "the incident")
    said = text(page)
    for part in ("Probable cause", "Before and after", "What changed", "Silence"):
        assert part in said
    assert there(".chart .mark.onset")(page)
    quiet(page)


def test_a_pair_before_and_after_and_from_both_ends(
    shop: Scene, page: Chrome, raised: Incident
) -> None:
    shop.feed(30)
    go(page, shop, path_of_pair("catalogue"))
    chart = page.execute_script(CHART)
    assert "Request latency seen by the client" in chart["said"]
    assert chart["on"] == 1  # the baseline goes on after the onset
    # lower is larger: the line is above the band after the onset, and was about in it before
    points = [tuple(map(float, p.split())) for p in chart["line"].replace("M", "L").split("L") if p]
    after = [y for x, y in points if x > chart["onset"] + 4]
    before = [y for x, y in points if x < chart["onset"] - 4]
    assert after
    assert max(after) < chart["low"]
    assert sum(before) / len(before) > chart["low"]
    ends = text(page, "table.ends")
    for part in ("catalogue\nclient", "postgres\nserver", "between", "99th percentile"):
        assert part in ends
    row = text(page, "table.ends tbody tr")
    assert row.count("ms") + row.count("µs") == 3  # at the client, in the server, between
    quiet(page)


def test_the_focus_stays_where_it_is(shop: Scene, page: Chrome, raised: Incident) -> None:
    go(page, shop, "")
    wait(page, lambda p: text(p, "#connection") == "live", "live")
    row = "[data-list=pairs] tr:nth-child(2)"
    before = text(page, row)
    name = page.execute_script(
        f"const link = document.querySelector('{row} a'); link.focus(); return link.id"
    )
    shop.feed()
    shop.feed()
    wait(page, lambda p: text(p, row) != before, "other numbers in the row")
    assert page.execute_script("return document.activeElement.id") == name
    # and where all around it is made anew
    same = page.execute_script(
        f"const link = document.querySelector('#open-{raised.id}');"
        "link.focus();"
        "const html = document.querySelector('[data-part=verdict]').innerHTML;"
        "apply({parts: {verdict: html}});"
        "return [link.isConnected, document.activeElement.id]"
    )
    assert same == [False, f"open-{raised.id}"]
    quiet(page)


@pytest.mark.parametrize("path", ["", "incidents", "pairs", "silences", "incident", "pair"])
def test_the_keyboard_reaches_everything(
    shop: Scene, page: Chrome, raised: Incident, path: str
) -> None:
    places = {"incident": f"incidents/{raised.id}", "pair": path_of_pair("billing")}
    go(page, shop, places.get(path, path))
    assert page.execute_script(NAMELESS) == []
    wanted = page.execute_script(TABBABLE)
    assert len(wanted) >= 8
    reached = set()
    for _ in range(len(wanted) + 2):
        press(page, Keys.TAB)
        reached.add(page.execute_script(FOCUSED))
    assert set(wanted) - reached == set()
    quiet(page)


def test_a_silence_by_the_keyboard(shop: Scene, page: Chrome, raised: Incident) -> None:
    go(page, shop, "")
    enter(page, f"#hush-{raised.id}")
    wait(page, there("[name=matchers]"), "the form")
    value = "return document.querySelector('[name=matchers]').value"
    assert page.execute_script(value) == "service=postgres"
    page.execute_script("document.querySelector('[name=matchers]').focus()")
    press(page, Keys.TAB, "8", Keys.TAB, "Ann", Keys.TAB, "moving it", Keys.ENTER)
    wait(page, lambda p: "/silences?made=" in p.current_url, "the list of silences")
    wait(page, lambda p: "Silenced." in text(p), "what was done")
    assert "by Ann: moving it" in text(page)
    [made] = silences.stored(shop.state_dir)
    assert [str(each) for each in made.matchers] == ["service=postgres"]
    assert (made.author, made.comment, made.ends - made.starts) == ("Ann", "moving it", 28_800.0)
    shop.feed()  # the daemon heeds it
    go(page, shop, f"incidents/{raised.id}")
    assert "Silenced by Ann" in text(page)
    go(page, shop, "")
    assert "Nothing is wrong that people are told of" in text(page)
    assert "Not told: silenced by Ann" in text(page)
    assert there(".map .node.root[data-service=postgres]")(page)
    go(page, shop, "silences")
    enter(page, f"#end-{made.id}")
    wait(page, lambda p: "Nothing is silenced" in text(p), "its end")
    shop.feed()
    go(page, shop, "")
    assert "Probable cause" in text(page)
    quiet(page)


def test_the_search_finds_and_hostile_names_are_text(
    shop: Scene, page: Chrome, raised: Incident
) -> None:
    go(page, shop, "")
    page.find_element(By.ID, "q").send_keys("script 8080", Keys.ENTER)
    wait(page, lambda p: "/pairs?q=script+8080" in p.current_url, "the list")
    wait(page, there("[data-list=pairs] tr"), "what was found")
    assert "<script>alert(1)</script>" in text(page, "[data-list=pairs]")
    assert (
        page.execute_script("return document.querySelector('[data-list]').childElementCount") == 1
    )
    enter(page, "[data-list=pairs] a")
    wait(page, lambda p: "/pair?" in p.current_url, "the pair")
    wait(page, lambda p: "onerror=alert(1)>" in text(p, "h1"), "its name")
    assert not there("img, main script")(page)
    quiet(page)


@pytest.mark.parametrize("path", ["", "incidents", "pairs", "silences", "incident", "pair"])
def test_a_phone_shows_it_without_scrolling_sideways(
    shop: Scene, page: Chrome, raised: Incident, path: str
) -> None:
    places = {"incident": f"incidents/{raised.id}", "pair": path_of_pair("checkout")}
    try:
        resize(page, 360, 740)
        go(page, shop, places.get(path, path))
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
        assert page.execute_script(WIDER) == []
        if path == "":
            at = page.execute_script(
                "const of = (css) => document.querySelector(css).getBoundingClientRect();"
                "const [map, root] = [of('.map'), of('.map .node.root')];"
                "return root.left >= map.left && root.right <= map.right"
            )
            assert at is True  # the map begins where the cause is
    finally:
        resize(page, 1280, 900)
    quiet(page)


def test_dark_and_light(shop: Scene, page: Chrome, raised: Incident) -> None:
    """As the system has it, and else by a switch that is remembered."""
    seen = {}
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        go(page, shop, "")
        seen[scheme] = page.execute_script(GROUND)
    assert seen["dark"] < 150 < 600 < seen["light"]
    switched = []
    for wanted in ("dark", "light", "auto"):  # at last as the system has it again
        enter(page, ".theme button")
        done = (
            "return document.readyState === 'complete' &&"
            f" document.querySelector('.theme').innerText.includes('Colours: {wanted}')"
        )
        wait(page, lambda p, done=done: p.execute_script(done), wanted)  # type: ignore[misc]
        switched.append(page.execute_script(GROUND))
    assert switched == [seen["dark"], seen["light"], seen["light"]]
    quiet(page)
