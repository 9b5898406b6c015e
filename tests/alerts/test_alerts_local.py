"""The journal, syslog and standard output."""

import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.errors import DeliveryError
from alerts.incident import Root
from alerts.receivers import Message, journal, local, make_receiver, syslog
from alerts.settings import JournalSettings, StdoutSettings, SyslogSettings
from tests.alerts import goldens
from tests.alerts.examples import T0
from tests.alerts.messages import EVENTS, digest, firing, incident, resolved, texts


@contextmanager
def datagrams(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(5)
        yield server


@pytest.mark.parametrize("event", goldens.EVENTS)
@pytest.mark.parametrize("receiver", ["journal", "syslog", "stdout"])
def test_bodies_are_the_golden_ones(receiver, event):
    goldens.check(receiver, event)


def decoded(datagram):
    """Return the fields of a datagram, as systemd's description of the protocol has it."""
    found, rest = {}, datagram
    while rest:
        head, _, rest = rest.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
        found[name.decode()] = value.decode()
    return found


def test_the_journal_gets_fields(tmp_path):
    with datagrams(tmp_path / "socket") as server:
        receiver = make_receiver(JournalSettings(name="log", address=tmp_path / "socket"))
        assert receiver.send(firing(), now=T0) == {}
        entry = decoded(server.recv(1 << 20))
        receiver.send(digest(), now=T0)
        assert decoded(server.recv(1 << 20))["TAILRACE_DIGEST"] == "00000000000000d1"
        receiver.close()
    assert entry["TAILRACE_INCIDENT"] == "5f0c9d1be2a34477"
    assert entry["PRIORITY"] == "4"
    assert entry["TAILRACE_EVENT"] == "incident.firing"
    assert entry["TAILRACE_DETAILS"].count("\n") > 5
    assert re.fullmatch("[0-9a-f]{32}", entry["MESSAGE_ID"])


@given(st.dictionaries(st.from_regex(r"\A[A-Z][A-Z0-9_]{0,20}\Z"), st.text()))
def test_any_entry_of_the_journal_reads_back(entry):
    assert decoded(journal.encode(entry)) == {
        name: value.encode("utf-8", "replace").decode() for name, value in entry.items()
    }


def test_nobody_listens(tmp_path):
    for settings in (
        JournalSettings(name="log", address=tmp_path / "nothing"),
        SyslogSettings(name="log", address=str(tmp_path / "nothing")),
        SyslogSettings(name="log", address="tcp://127.0.0.1:9"),
    ):
        with pytest.raises(DeliveryError) as caught:
            make_receiver(settings).send(firing(), now=T0)
        assert (caught.value.reason, caught.value.retry) == ("network", True)


RFC5424 = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([!-~]{1,255}) ([!-~]{1,48})"
    rb" ([!-~]{1,128}) ([!-~]{1,32}) - \xef\xbb\xbf(.*)",
    re.DOTALL,
)


def test_syslog_by_a_socket_of_this_host_and_by_udp(tmp_path):
    with (
        datagrams(tmp_path / "log") as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)
        port = udp.getsockname()[1]
        for address, server in (
            (str(tmp_path / "log"), here),
            (f"udp://127.0.0.1:{port}", udp),
        ):
            receiver = make_receiver(SyslogSettings(name="log", address=address))
            receiver.send(firing(), now=T0)
            packet = RFC5424.fullmatch(server.recv(1 << 16))
            assert packet is not None
            assert int(packet[1]) == 3 * 8 + 4
            assert packet[6] == b"firing"
            assert "request latency of web -> api:8080 rose" in packet[7].decode()
            receiver.send(resolved(), now=T0)
            assert server.recv(1 << 16).startswith(b"<30>1 ")


def test_syslog_by_tcp_counts_octets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        received = []

        def accept():
            connection, _ = server.accept()
            with connection:
                received.append(connection.makefile("rb").read())

        thread = threading.Thread(target=accept)
        thread.start()
        port = server.getsockname()[1]
        make_receiver(SyslogSettings(name="log", address=f"tcp://localhost:{port}")).send(
            firing(), now=T0
        )
        thread.join(5)
    size, _, packet = received[0].partition(b" ")
    assert int(size) == len(packet)
    assert RFC5424.fullmatch(packet)


@given(st.text(max_size=300), st.sampled_from(sorted(EVENTS)))
def test_whatever_it_says_it_is_one_line_of_bounded_size(text, event):
    root = Root(service=text, side="server", score=1.0, why=text * 20)
    told = incident(title=text * 9, impact=text * 9, roots=(root,) * 3)
    kind = EVENTS[event]().event
    message = Message(id="msg_1", event=kind, incident=told)
    line = local.line(message)
    assert len(line) <= local.LINE_LIMIT
    assert len(line.splitlines()) == 1
    assert line.endswith("tailrace explain 5f0c9d1be2a34477")
    assert RFC5424.fullmatch(syslog.render(message, now=T0))


def test_priorities():
    told = Message(id="msg_1", event="firing", incident=incident(severity="critical"))
    assert local.priority(told) == local.CRITICAL
    assert local.priority(firing()) == local.WARNING
    assert local.priority(firing(test=True)) == local.priority(resolved()) == local.INFO
    assert local.priority(digest()) == local.INFO


def test_standard_output_as_text_and_as_json(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    make_receiver(StdoutSettings(name="out")).send(firing(), now=T0)
    make_receiver(StdoutSettings(name="out", format="json")).send(resolved(), now=T0)
    text, body = out.getvalue().splitlines()
    assert text.startswith("api is slow: request latency up 9.7x; request latency of web")
    assert json.loads(body)["type"] == "incident.resolved"
    assert list(texts(json.loads(body)))


def test_nobody_reads_standard_output_any_more():
    program = (
        "from tests.alerts.messages import firing\n"
        "from alerts.receivers import make_receiver\n"
        "from alerts.settings import StdoutSettings\n"
        "from alerts.errors import DeliveryError\n"
        "import os, sys\n"
        "receiver = make_receiver(StdoutSettings(name='out'))\n"
        "try:\n"
        "    receiver.send(firing(), now=0.0)\n"
        "except DeliveryError as error:\n"
        "    print(error, file=sys.stderr)\n"
        "os._exit(0)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert b"network (BrokenPipeError)" in done.stderr
