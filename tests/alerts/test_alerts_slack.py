import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.digest import make_digest
from alerts.errors import DeliveryError
from alerts.receivers import DigestMessage, Message, make_receiver, slack_message
from alerts.receivers.slack import SlackBot, SlackWebhook
from alerts.settings import ReceiverSettings
from alerts.trial import send_test
from probes.window import Pair
from tests.alerts.examples import T0, ended, finding, incident, numbered, written
from tests.servers.base import Answer
from tests.servers.slack import HOOK_PATH, TOKEN, SlackServer, blocks_are_valid
from tests.servers.webhook import WebhookServer

GOLDEN = Path(__file__).parent / "golden"


def message(*findings, **more):
    about = incident(*findings, id="0123456789abcdef")
    return Message(id="msg_1", event=about.state, incident=about, **more)


@pytest.fixture
def server():
    with SlackServer(per_message_s=0.0) as running:
        yield running


@pytest.fixture
def bot(server, tmp_path):
    token_file = written(tmp_path / "token", TOKEN)
    return make_receiver(
        ReceiverSettings(
            name="chat",
            type="slack",
            url=server.api_url,
            token_file=token_file,
            channel="#alerts",
            timeout_s=1.0,
        )
    )


@pytest.fixture
def hook(server):
    return make_receiver(
        ReceiverSettings(name="chat", type="slack", url=server.hook_url, timeout_s=1.0)
    )


@pytest.mark.parametrize(
    ("name", "findings"),
    [
        ("slack-firing", [finding(cause="timed_out"), finding(onset=T0 + 60, after=0.05)]),
        ("slack-resolved", [ended(finding())]),
        ("slack-adopted", [ended(finding(), state="adopted")]),
        (
            "slack-critical",
            [
                finding(
                    signal="connect_errors",
                    unit="ratio",
                    before=0.0,
                    after=0.42,
                    ratio=None,
                    cause="refused",
                )
            ],
        ),
    ],
)
def test_bodies_are_the_golden_ones(name, findings):
    rendered = slack_message.render(message(*findings))
    assert rendered == json.loads((GOLDEN / f"{name}.json").read_text())


def digest(number, **changes):
    held = [incident(numbered(n, **changes), id=f"{n:016x}") for n in range(number)]
    made = make_digest(held, reason="no token was left of false_alerts = 1/week", now=T0)
    return DigestMessage(id="msg_1", digest=made)


def test_a_digest_is_the_golden_one():
    rendered = slack_message.render(digest(12))
    assert rendered == json.loads((GOLDEN / "slack-digest.json").read_text())


def test_a_digest_is_a_message_of_its_own(server, hook, bot):
    assert hook.send(digest(1), now=T0) == {}
    assert bot.send(digest(2), now=T0).keys() == {"channel", "ts"}
    assert [sent.blocks[0]["text"]["text"] for sent in server.messages] == [
        "🗒️ 1 incident was held back",
        "🗒️ 2 incidents were held back",
    ]


@given(st.text(alphabet="&<>a*`", min_size=1, max_size=150), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_any_digest_is_within_slacks_limits(name, number):
    rendered = slack_message.render(digest(number, pair=Pair(name, name, 65535, "udp")))
    assert blocks_are_valid(rendered["blocks"])
    assert 0 < len(rendered["text"]) <= slack_message.SECTION_LIMIT
    listed = rendered["blocks"][2]["text"]["text"].count("\n• ") + 1
    assert listed == min(number, slack_message.FINDINGS_LISTED)


def test_an_incoming_webhook_posts_each_change_of_state(server, hook):
    assert isinstance(hook, SlackWebhook)
    assert hook.send(message(), now=T0) == {}
    assert hook.send(message(ended(finding())), now=T0) == {}
    firing, resolved = server.messages
    assert "request latency of web -&gt; api:8080 rose from 2.1 ms to 20.4 ms" in firing.text
    assert resolved.text.startswith("✅ Resolved: ")
    assert firing.blocks[0]["type"] == "header"


def test_a_bot_posts_once_then_updates_and_replies(server, bot):
    assert isinstance(bot, SlackBot)
    receipt = bot.send(message(), now=T0)
    assert receipt == {"channel": "C0ALERTS", "ts": server.messages[0].ts}
    assert bot.send(message(ended(finding()), earlier=receipt), now=T0) == receipt
    posted, reply = server.messages
    assert posted.edits == 1
    assert posted.text.startswith("✅ Resolved: request latency of web")
    assert reply.thread_ts == posted.ts
    assert "back to normal since" in reply.text
    assert server.calls == ["chat.postMessage", "chat.update", "chat.postMessage"]


def test_a_removed_message_is_posted_anew(server, bot):
    receipt = bot.send(message(), now=T0)
    server.messages.clear()
    new = bot.send(message(ended(finding()), earlier=receipt), now=T0)
    assert new["ts"] == server.messages[0].ts != receipt["ts"]
    assert server.messages[0].thread_ts is None


def test_a_message_too_old_to_edit_still_gets_its_reply(server, bot):
    receipt = bot.send(message(), now=T0)
    server.next_answers.append(Answer(body=b'{"ok": false, "error": "edit_window_closed"}'))
    bot.send(message(ended(finding()), earlier=receipt), now=T0)
    assert [one.thread_ts for one in server.messages] == [None, receipt["ts"]]


def test_resolved_without_an_earlier_message_is_a_message_of_its_own(server, bot):
    bot.send(message(ended(finding())), now=T0)
    assert server.calls == ["chat.postMessage"]
    assert server.messages[0].text.startswith("✅")


def test_the_rate_limit_is_reported_with_its_wait(server, bot, hook):
    server.per_message_s = 1.0
    bot.send(message(), now=T0)
    hook.send(message(), now=T0)
    for receiver in (bot, hook):
        with pytest.raises(DeliveryError) as caught:
            receiver.send(message(), now=T0)
        assert (caught.value.reason, caught.value.retry_after_s) == ("rate_limited", 1.0)
        assert caught.value.retry
    assert len(server.messages) == 2


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
        bot.send(message(), now=T0)
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
        hook.send(message(), now=T0)
    assert (caught.value.reason, caught.value.retry) == (reason, retry)
    assert len(server.requests) == 1


def test_the_token_does_not_follow_a_redirect(server, bot, hook):
    with WebhookServer(secret=None) as elsewhere:
        for receiver in (bot, hook):
            server.next_answers.append(Answer(status=302, headers={"Location": elsewhere.url}))
            with pytest.raises(DeliveryError, match="redirect"):
                receiver.send(message(), now=T0)
        assert elsewhere.requests == []


def test_a_wrong_token_and_a_wrong_channel_are_rejected(server, tmp_path):
    def bot(token, channel):
        return make_receiver(
            ReceiverSettings(
                name="chat",
                type="slack",
                url=server.api_url,
                token_file=written(tmp_path / "token", token),
                channel=channel,
            )
        )

    with pytest.raises(DeliveryError, match=r"invalid_auth.*check token"):
        bot("xoxb-wrong", "#alerts").send(message(), now=T0)
    with pytest.raises(DeliveryError, match="channel_not_found"):
        bot(TOKEN, "#nowhere").send(message(), now=T0)
    with pytest.raises(ValueError, match="needs token_file and channel"):
        bot(TOKEN, None)
    with pytest.raises(ValueError, match="needs a url"):
        make_receiver(ReceiverSettings(name="chat", type="slack"))


def test_a_token_is_read_again_so_that_it_can_be_corrected(server, bot, tmp_path):
    (tmp_path / "token").unlink()
    with pytest.raises(DeliveryError) as caught:
        bot.send(message(), now=T0)
    assert (caught.value.reason, caught.value.retry) == ("secret_unreadable", True)
    written(tmp_path / "token", TOKEN)
    bot.send(message(), now=T0)
    assert len(server.messages) == 1


def test_names_cannot_mention_link_or_format(server, hook):
    evil = Pair("<!channel> & co", "<http://evil|x>", 80)
    hook.send(message(finding(pair=evil)), now=T0)
    whole = json.dumps(server.messages[0].blocks) + server.messages[0].text
    assert "<!channel>" not in whole
    assert "<http" not in whole
    assert "&lt;!channel&gt; &amp; co" in whole


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(min_size=1, max_size=300) | st.just("&" * 5000),
    cause=st.text(max_size=3000),
    number=st.integers(1, 120),
    over=st.booleans(),
)
def test_any_incident_is_within_slacks_limits(name, cause, number, over):
    pair = Pair(name, name, 65535, "udp")
    many = [
        finding(onset=T0 + i, pair=pair, cause=cause, signal="some_gauge" * 9)
        for i in range(number)
    ]
    sent = message(*map(ended, many) if over else many)
    for rendered in (slack_message.render(sent), slack_message.render_ending(sent)):
        assert blocks_are_valid(rendered["blocks"])
        assert 0 < len(rendered["text"]) <= slack_message.SECTION_LIMIT
        total = len(json.dumps(rendered["blocks"], ensure_ascii=False))
        assert total <= slack_message.TOTAL_LIMIT


@given(st.text(alphabet="&<>ab", max_size=80), st.integers(1, 60))
def test_escaping_cuts_between_characters_and_never_within_an_entity(text, limit):
    escaped = slack_message.escape(text, limit=limit)
    assert len(escaped) <= limit
    plain = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain == text or (plain.endswith("…") and text.startswith(plain[:-1]))


def test_a_test_message_says_that_it_is_one(server, tmp_path):
    token_file = written(tmp_path / "token", TOKEN)
    send_test(
        ReceiverSettings(
            name="chat", type="slack", url=server.api_url, token_file=token_file, channel="#alerts"
        )
    )
    assert "[test]" in server.messages[0].blocks[0]["text"]["text"]
    wrong = f"{server.base_url}{HOOK_PATH}x"
    with pytest.raises(DeliveryError, match="no_service"):
        send_test(ReceiverSettings(name="chat", type="slack", url=wrong))
