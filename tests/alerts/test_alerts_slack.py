import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.errors import DeliveryError
from alerts.incident import Root, Trigger
from alerts.receivers import Message, make_receiver, slack_message, telling
from alerts.receivers.slack import SlackBot, SlackWebhook
from alerts.settings import SlackSettings
from alerts.trial import send_test
from probes.window import Pair
from tests.alerts import goldens
from tests.alerts.examples import T0, Clock, finding, written
from tests.alerts.messages import (
    adopted,
    answers,
    digest,
    firing,
    incident,
    over,
    resolved,
    updated,
    worse,
)
from tests.servers.base import Answer
from tests.servers.slack import HOOK_PATH, TOKEN, SlackServer, blocks_are_valid
from tests.servers.webhook import WebhookServer


@pytest.fixture
def server():
    with SlackServer(per_message_s=0.0) as running:
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture
def bot(server, tmp_path, waits):
    token_file = written(tmp_path / "token", TOKEN)
    return SlackBot(
        SlackSettings(
            name="chat",
            url=server.api_url,
            token_file=token_file,
            channel="#alerts",
            timeout_s=1.0,
        ),
        wait=waits.append,
    )


@pytest.fixture
def hook(server):
    return make_receiver(SlackSettings(name="chat", url=server.hook_url, timeout_s=1.0))


@pytest.mark.parametrize("event", goldens.EVENTS)
def test_bodies_are_the_golden_ones(event):
    goldens.check("slack", event)


def test_it_answers_what_is_asked_at_night():
    answers([slack_message.render(firing()), slack_message.render_reply(firing(), first=True)])
    sent = slack_message.render(firing(), in_place=True)
    shown = "\n".join(block["text"]["text"] for block in sent["blocks"] if "text" in block)
    assert "▁▁▂▁▁▁▂▁▁▁▂▁▁▆▇█▇██▇" in shown
    assert "<!date^" in json.dumps(sent)


def test_a_digest_is_a_message_of_its_own(server, hook, bot):
    assert hook.send(digest(1), now=T0) == {}
    assert bot.send(digest(2), now=T0).keys() == {"channel", "ts"}
    assert [sent.blocks[0]["text"]["text"] for sent in server.messages] == [
        "🗒️ 1 incident was held back",
        "🗒️ 2 incidents were held back",
    ]


def test_an_incoming_webhook_posts_each_change_of_state(server, hook):
    assert isinstance(hook, SlackWebhook)
    receipt = hook.send(firing(), now=T0)
    receipt = hook.send(updated(earlier=receipt), now=T0)
    hook.send(resolved(earlier=receipt), now=T0)
    first, second, third = server.messages
    assert "request latency of web -&gt; api:8080 rose from 2.1 ms to 20.4 ms" in first.text
    assert second.text.startswith("🔴 Updated: api is slow")
    assert "*Changed:* now critical (was warning); findings: 3 (were 2)" in json.dumps(
        second.blocks
    )
    assert third.text.startswith("✅ Resolved: ")
    assert "back to normal since" in third.text
    assert first.blocks[0]["type"] == "header"


def test_a_bot_posts_once_then_updates_and_replies(server, bot, waits):
    receipt = bot.send(firing(), now=T0)
    assert (receipt["channel"], receipt["ts"]) == ("C0ALERTS", server.messages[0].ts)
    receipt = bot.send(updated(earlier=receipt), now=T0)
    assert bot.send(resolved(earlier=receipt), now=T0)["ts"] == receipt["ts"]
    posted, symptoms, change, end = server.messages
    assert posted.edits == 2
    assert posted.text.startswith("✅ Resolved: api is slow")
    assert {symptoms.thread_ts, change.thread_ts, end.thread_ts} == {posted.ts}
    assert "failed connections of checkout" in symptoms.blocks[0]["text"]["text"]
    assert "now critical (was warning)" in change.text
    assert "back to normal since" in end.text
    post, update = "chat.postMessage", "chat.update"
    assert server.calls == [post, post, update, post, update, post]
    assert waits == [1.0]  # only the first message and its first reply come from one attempt


def test_the_channels_rate_is_kept(tmp_path):
    clock = Clock()
    with SlackServer(clock=clock) as server:

        def wait(seconds):
            clock.now += seconds

        token_file = written(tmp_path / "token", TOKEN)
        settings = SlackSettings(
            name="chat", url=server.api_url, token_file=token_file, channel="#alerts"
        )
        bot = SlackBot(settings, wait=wait)
        receipts = {}
        for name in ("one", "two", "one", "two"):
            event = updated if name in receipts else firing
            message = event(earlier=receipts.get(name, {}))
            receipts[name] = bot.send(message, now=clock.now)
            wait(bot.pace_s)
        assert len(server.messages) == 6
        bot.send(updated(earlier=receipts["one"]), now=clock.now)
        with pytest.raises(DeliveryError) as caught:
            bot.send(updated(earlier=receipts["one"]), now=clock.now)
        assert (caught.value.reason, caught.value.retry_after_s) == ("rate_limited", 1.0)


def test_what_failed_half_way_is_not_posted_twice(server, bot):
    server.next_answers.extend(
        [
            Answer(body=b'{"ok": true, "channel": "C0ALERTS", "ts": "1.2"}'),
            Answer(status=503),
            Answer(status=429, headers={"Retry-After": "3"}),
        ]
    )
    for reason in ("server_error", "rate_limited"):
        with pytest.raises(DeliveryError) as caught:
            bot.send(firing(), now=T0)
        assert (caught.value.reason, caught.value.retry) == (reason, True)
    server.next_answers.append(Answer(body=b'{"ok": true, "channel": "C0ALERTS", "ts": "1.3"}'))
    receipt = bot.send(firing(), now=T0)
    assert (receipt["channel"], receipt["ts"]) == ("C0ALERTS", "1.2")
    bodies = [json.loads(request.body) for request in server.requests]
    assert [body.get("thread_ts") for body in bodies] == [None, "1.2", "1.2", "1.2"]


def test_a_thread_that_is_refused_does_not_lose_the_message(server, bot):
    receipt = bot.send(firing(), now=T0)
    server.next_answers.append(Answer(body=b'{"ok": true}'))
    server.next_answers.append(Answer(body=b'{"ok": false, "error": "restricted_action"}'))
    assert bot.send(updated(earlier=receipt), now=T0)["ts"] == receipt["ts"]


def test_a_removed_message_is_posted_anew(server, bot):
    receipt = bot.send(firing(), now=T0)
    server.messages.clear()
    new = bot.send(resolved(earlier=receipt), now=T0)
    assert new["ts"] == server.messages[0].ts != receipt["ts"]
    assert server.messages[0].thread_ts is None


def test_a_message_too_old_to_edit_still_gets_its_reply(server, bot):
    receipt = bot.send(firing(), now=T0)
    server.next_answers.append(Answer(body=b'{"ok": false, "error": "edit_window_closed"}'))
    bot.send(resolved(earlier=receipt), now=T0)
    assert [one.thread_ts for one in server.messages] == [None, receipt["ts"], receipt["ts"]]


def test_resolved_without_an_earlier_message_is_a_message_of_its_own(server, bot):
    bot.send(resolved(), now=T0)
    assert server.calls == ["chat.postMessage", "chat.postMessage"]
    assert server.messages[0].text.startswith("✅")


def test_a_new_normal_is_called_that(server, bot):
    bot.send(adopted(), now=T0)
    assert server.messages[0].text.startswith("✅ New normal: api is slow")
    assert "new normal since" in server.messages[0].text


def test_the_rate_limit_is_reported_with_its_wait(server, bot, hook):
    server.per_message_s = 1.0
    server.messages.clear()
    hook.send(firing(), now=T0)
    with pytest.raises(DeliveryError) as caught:
        hook.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry_after_s) == ("rate_limited", 1.0)
    assert caught.value.retry
    assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("answer", "reason", "detail", "retry"),
    [
        (Answer(body=b'{"ok": false, "error": "internal_error"}'), "server_error", "", True),
        (Answer(body=b'{"ok": false, "error": "is_archived"}'), "rejected", "is_archived", False),
        (Answer(body=b'{"ok": false, "error": "xoxb-1 !"}'), "server_error", "", True),
        (Answer(body=b'{"ok": true}'), "server_error", "", True),
        (Answer(body=b"<html>login</html>"), "server_error", "", True),
        (Answer(body=b"[]"), "server_error", "", True),
        (Answer(status=503, body=b"busy"), "server_error", "HTTP 503", True),
        (Answer(status=302, headers={"Location": "/x"}), "redirect", "HTTP 302", True),
        (Answer(status=429, headers={"Retry-After": "30"}), "rate_limited", "", True),
        (Answer(delay_s=3.0), "timeout", "", True),
        (Answer(hang_up=True), "network", "", True),
    ],
)
def test_every_failure_of_the_web_api_has_its_reason(server, bot, answer, reason, detail, retry):
    server.next_answers.append(answer)
    with pytest.raises(DeliveryError) as caught:
        bot.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert detail in caught.value.detail
    assert len(server.requests) == 1  # slack_sdk did not retry by itself


@pytest.mark.parametrize(
    ("answer", "reason", "retry"),
    [
        (Answer(status=404, body=b"no_service"), "rejected", False),
        (Answer(status=403, body=b"<html>proxy</html>"), "rejected", False),
        (Answer(status=410, body=b"channel_is_archived"), "gone", False),
        (Answer(status=500, body=b"rollup_error"), "server_error", True),
        (Answer(status=200, body=b"<html>login</html>"), "server_error", True),
        (Answer(status=302, headers={"Location": "/x"}), "redirect", True),
        (Answer(status=429, headers={"retry-after": "30"}), "rate_limited", True),
        (Answer(delay_s=3.0), "timeout", True),
        (Answer(hang_up=True), "network", True),
    ],
)
def test_every_failure_of_an_incoming_webhook_has_its_reason(server, hook, answer, reason, retry):
    server.next_answers.append(answer)
    with pytest.raises(DeliveryError) as caught:
        hook.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert len(server.requests) == 1


def test_the_token_does_not_follow_a_redirect(server, bot, hook):
    with WebhookServer(secret=None) as elsewhere:
        for receiver in (bot, hook):
            server.next_answers.append(Answer(status=302, headers={"Location": elsewhere.url}))
            with pytest.raises(DeliveryError, match="redirect"):
                receiver.send(firing(), now=T0)
        assert elsewhere.requests == []


def test_a_wrong_token_and_a_wrong_channel_are_rejected(server, tmp_path):
    def bot(token, channel):
        token_file = written(tmp_path / "token", token)
        return make_receiver(
            SlackSettings(name="chat", url=server.api_url, token_file=token_file, channel=channel)
        )

    with pytest.raises(DeliveryError, match=r"invalid_auth.*check token"):
        bot("xoxb-wrong", "#alerts").send(firing(), now=T0)
    with pytest.raises(DeliveryError, match="channel_not_found"):
        bot(TOKEN, "#nowhere").send(firing(), now=T0)
    with pytest.raises(ValueError, match="a token_file needs channel"):
        bot(TOKEN, None)
    with pytest.raises(ValueError, match="slack needs url"):
        SlackSettings(name="chat")


def test_a_token_is_read_again_so_that_it_can_be_corrected(server, bot, tmp_path):
    (tmp_path / "token").unlink()
    with pytest.raises(DeliveryError) as caught:
        bot.send(firing(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("secret_unreadable", True)
    written(tmp_path / "token", TOKEN)
    bot.send(firing(), now=T0)
    assert len(server.messages) == 2


def test_an_incoming_webhooks_url_can_be_in_a_file(server, tmp_path):
    hook = make_receiver(SlackSettings(name="chat", url_file=tmp_path / "url"))
    written(tmp_path / "url", "not a url")
    with pytest.raises(DeliveryError, match="holds no URL"):
        hook.send(firing(), now=T0)
    written(tmp_path / "url", server.hook_url)
    hook.send(firing(), now=T0)
    assert len(server.messages) == 1


def test_names_cannot_mention_link_or_format(server, hook):
    evil = Pair("<!channel> & co", "<http://evil|x>", 80)
    root = Root(service="`<!here>`", side="server", score=1.0, why="<@U1> said so")
    told = incident(symptoms=(finding(pair=evil),), roots=(root,), title="<!channel>")
    hook.send(Message(id="msg_1", event="firing", incident=told), now=T0)
    whole = json.dumps(server.messages[0].blocks) + server.messages[0].text
    for mention in ("<!channel>", "<http", "<@U1>", "<!here>"):
        assert mention not in whole
    assert "&lt;!channel&gt; &amp; co" in whole
    command = server.messages[0].blocks[-1]["elements"][0]["text"]
    assert command.count("`") == 4  # a backtick in a name does not end the span


TEXT = st.text(max_size=200) | st.sampled_from(["&" * 5000, "x" * 20_000])


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(min_size=1, max_size=150) | st.just("&" * 5000),
    text=TEXT,
    number=st.integers(0, 50),
    many=st.integers(1, 100),
    event=st.sampled_from(["firing", "updated", "resolved"]),
)
def test_any_incident_is_within_slacks_limits(name, text, number, many, event):
    pair = Pair(name, name, 65535, "udp")
    symptoms = tuple(
        finding(onset=T0 + i, pair=pair, cause=text, signal="some_gauge" * 9) for i in range(number)
    )
    root = Root(service=name, side="server", score=0.2, why=text)
    base = over if event == "resolved" else worse
    told = base(
        title=text,
        summary=text,
        impact=text,
        picture=text + "█" * 500,
        roots=(root,) * 5,
        affected=tuple(f"{name}{i}" for i in range(many)),
        findings=tuple(f"{i:016x}" for i in range(max(number, 1))),
        symptoms=symptoms,
        trigger=Trigger(kind="oom_kill", service=name, at=T0 + 5, detail=text),
    )
    earlier = {"root": name + "x", "severity": "info", "findings": "0", "affected": "0"}
    sent = Message(id="msg_1", event=event, incident=told, earlier=earlier)
    for rendered in (
        slack_message.render(sent),
        slack_message.render(sent, in_place=True),
        slack_message.render_reply(sent, first=True),
        slack_message.render_reply(sent, first=False),
    ):
        assert blocks_are_valid(rendered["blocks"])
        assert 0 < len(rendered["text"]) <= slack_message.SECTION_LIMIT
        total = len(json.dumps(rendered["blocks"], ensure_ascii=False))
        assert total <= slack_message.TOTAL_LIMIT


@given(st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_any_digest_is_within_slacks_limits(number):
    rendered = slack_message.render(digest(number))
    assert blocks_are_valid(rendered["blocks"])
    listed = rendered["blocks"][2]["text"]["text"].count("• ")
    assert listed == min(number, telling.SYMPTOMS_LISTED)


@given(st.text(alphabet="&<>ab", max_size=80), st.integers(1, 60))
def test_escaping_cuts_between_characters_and_never_within_an_entity(text, limit):
    escaped = slack_message.escape(text, limit=limit)
    assert len(escaped) <= limit
    plain = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain == text or (plain.endswith("…") and text.startswith(plain[:-1]))


def test_a_test_message_says_that_it_is_one(server, tmp_path):
    token_file = written(tmp_path / "token", TOKEN)
    send_test(
        SlackSettings(name="chat", url=server.api_url, token_file=token_file, channel="#alerts")
    )
    assert "[test]" in server.messages[0].blocks[0]["text"]["text"]
    wrong = f"{server.base_url}{HOOK_PATH}x"
    with pytest.raises(DeliveryError, match="no_service"):
        send_test(SlackSettings(name="chat", url=wrong))
