"""Every way to move data and to pass sockets on: each byte once, at the right pair."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from probes.window import Pair
from tests.support.peers import ended, expect, names, program
from tests.support.traffic import hear
from tests.support.watching import Watch, watching

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with watching() as watch:
        yield watch


SERVER = """
s = create_server(("127.0.0.1", 0))
tell(s.getsockname()[1])
"""

CLIENT = """
c = create_connection(("127.0.0.1", int(sys.argv[2])))
"""


def _talk(watch: Watch, server: str, client: str, *expected: int) -> None:
    """Run both, and expect (connections, requests, bytes sent, bytes received)."""
    asking, answering = names()
    with program(answering, SERVER + server) as serves:
        port = int(hear(serves))
        with program(asking, CLIENT + client, port) as asks:
            ended(asks)
        ended(serves)
    expect(watch, Pair(asking, answering, port), *expected)


def test_sendfile(watch: Watch) -> None:
    _talk(
        watch,
        """
c = s.accept()[0]
with open("/dev/shm/" + sys.argv[1], "w+b") as f:
    os.unlink(f.name)
    f.write(bytes(3_000_000)); f.flush()
    for _ in range(2):
        all_of(c, 300)
        at = 0
        while at < 3_000_000: at += os.sendfile(c.fileno(), f.fileno(), at, 3_000_000 - at)
""",
        "request(c, 2, 300, 3_000_000)",
        *(1, 2, 600, 6_000_000),
    )


SPLICE = """
def splice(a, b, size):
    while size:
        moved = os.splice(a, b, size)
        assert moved
        size -= moved
"""


def test_splice_into_and_out_of_a_socket(watch: Watch) -> None:
    # a proxy of its own: it reads no byte itself
    _talk(
        watch,
        SPLICE
        + """
c = s.accept()[0]
out, into = os.pipe()
for _ in range(20):
    splice(c.fileno(), into, 300)
    splice(out, c.fileno(), 300)
""",
        "request(c, 20, 300, 300)",
        *(1, 20, 6000, 6000),
    )


def test_a_client_that_splices(watch: Watch) -> None:
    _talk(
        watch,
        "serve(s.accept()[0])",
        SPLICE
        + """
out, into = os.pipe()
for _ in range(20):
    os.write(into, bytes(300))
    splice(out, c.fileno(), 300)
    splice(c.fileno(), into, 700)
    assert len(os.read(out, 2000)) == 700
""",
        *(1, 20, 6000, 14000),
    )


def test_peeked_data_counts_once(watch: Watch) -> None:
    _talk(
        watch,
        "serve(s.accept()[0])",
        """
for _ in range(20):
    c.sendall(bytes(300))
    for _ in range(3): assert c.recv(10, MSG_PEEK)
    all_of(c, 700)
""",
        *(1, 20, 6000, 14000),
    )


def test_half_closed(watch: Watch) -> None:
    _talk(
        watch,
        """
c = s.accept()[0]
all_of(c, 1 << 30)
for _ in range(10): c.sendall(bytes(1000)); time.sleep(0.1)
""",
        "c.sendall(bytes(5000)); c.shutdown(SHUT_WR); assert len(all_of(c, 1 << 30)) == 10_000",
        *(1, 1, 5000, 10_000),
    )


def test_read_after_the_other_has_gone(watch: Watch) -> None:
    _talk(
        watch,
        "c = s.accept()[0]; all_of(c, 300); c.sendall(bytes(9000)); c.close(); tell('closed')",
        "c.sendall(bytes(300)); time.sleep(1); c.shutdown(SHUT_WR); time.sleep(1);"
        "assert len(all_of(c, 1 << 30)) == 9000",
        *(1, 1, 300, 9000),
    )


def test_a_socket_that_is_disconnected_and_connects_again(watch: Watch) -> None:
    _talk(
        watch,
        "for _ in range(2): serve(s.accept()[0])",
        """
for number in range(2):
    request(c, 20)
    c.shutdown(SHUT_WR)
    assert c.recv(1) == b""
    check(libc.connect(c.fileno(), bytes(16), 16))
    if number == 0: c.connect(("127.0.0.1", int(sys.argv[2])))
""",
        *(2, 40, 12000, 28000),
    )


URING = """
import errno, mmap
class Ring:
    # include/uapi/linux/io_uring.h; one request at a time
    def __init__(self):
        given = (ctypes.c_uint32 * 30)()
        self.fd = libc.syscall(425, 4, given)
        if self.fd < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):
            tell("refused"); sys.exit()
        check(self.fd)
        tell("ring")
        self.sq, self.cq = given[10:18], given[20:28]
        def area(size, at):
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            return mmap.mmap(self.fd, size, flags=flags, offset=at)
        self.submissions = area(self.sq[6] + 4 * given[0], 0)
        self.completions = area(self.cq[5] + 16 * given[1], 0x8000000)
        self.entries = area(64 * given[0], 0x10000000)
    def word(self, area, at): return struct.unpack_from("I", area, at)[0]
    def do(self, operation, fd, data):
        data = (ctypes.c_char * len(data)).from_buffer(data)
        struct.pack_into("BBHiQQIIQ24x", self.entries, 0,
            operation, 0, 0, fd, 0, ctypes.addressof(data), len(data), 0, 7)
        tail = self.word(self.submissions, self.sq[1])
        mask = self.word(self.submissions, self.sq[2])
        struct.pack_into("I", self.submissions, self.sq[6] + 4 * (tail & mask), 0)
        struct.pack_into("I", self.submissions, self.sq[1], tail + 1)
        check(libc.syscall(426, self.fd, 1, 1, 1, None, 0))
        head = self.word(self.completions, self.cq[0])
        mask = self.word(self.completions, self.cq[2])
        mark, result = struct.unpack_from("Qi", self.completions, self.cq[5] + 16 * (head & mask))
        struct.pack_into("I", self.completions, self.cq[0], head + 1)
        assert mark == 7
        return check(result)
    def send(self, fd, size):
        while size: size -= self.do(26, fd, bytearray(size))
    def receive(self, fd, size):
        while size:
            moved = self.do(27, fd, bytearray(size))
            if not moved: sys.exit()
            size -= moved
"""


def test_io_uring(watch: Watch) -> None:
    asking, answering = names()
    serve = "r = Ring(); s, _ = s.accept()\nwhile True: r.receive(s.fileno(), 300); "
    ask = "r = Ring()\nfor _ in range(20): r.send(c.fileno(), 300); r.receive(c.fileno(), 700)"
    with program(answering, SERVER + URING + serve + "r.send(s.fileno(), 700)") as serves:
        port = int(hear(serves))
        if hear(serves) == "refused":
            pytest.skip("this kernel refuses io_uring")
        with program(asking, CLIENT + URING + ask, port) as asks:
            ended(asks)
    expect(watch, Pair(asking, answering, port), 1, 20, 6000, 14000)


def test_many_datagrams_in_one_call(watch: Watch) -> None:
    # recvmmsg(2) and sendmmsg(2), by sockets that are not connected
    many = """
class IoVector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(IoVector)), ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t), ("flags", ctypes.c_int),
        ("pad", ctypes.c_int), ("moved", ctypes.c_uint32)]
def messages(number, size, name=None):
    made = (Message * number)()
    made.kept = []
    for message in made:
        data = ctypes.create_string_buffer(size)
        where = ctypes.create_string_buffer(name or bytes(16), 16)
        vector = IoVector(ctypes.addressof(data), size)
        message.name, message.name_size = ctypes.addressof(where), 16
        message.vectors, message.count = ctypes.pointer(vector), 1
        made.kept += [data, where, vector]
    return made
"""
    serve = """
s = socket(AF_INET, SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
tell(s.getsockname()[1])
have = 0
while have < 100:
    asked = messages(20, 2000)
    got = check(libc.recvmmsg(s.fileno(), asked, 20, 0x10000, None))
    assert all(message.moved == 300 for message in asked[:got])
    have += got
answers = messages(50, 700, ctypes.string_at(asked[0].name, 16))
assert check(libc.sendmmsg(s.fileno(), answers, 50, 0)) == 50
"""
    ask = """
s = socket(AF_INET, SOCK_DGRAM)
to = struct.pack("=H", AF_INET) + struct.pack("!H", int(sys.argv[2])) + inet_aton("127.0.0.1")
for _ in range(5):
    assert check(libc.sendmmsg(s.fileno(), messages(20, 300, to), 20, 0)) == 20
for _ in range(50): assert len(s.recv(2000)) == 700
"""
    asking, answering = names()
    with program(answering, many + serve) as serves:
        port = int(hear(serves))
        with program(asking, many + ask, port) as asks:
            ended(asks)
        ended(serves)
    expect(watch, Pair(asking, answering, port, "udp"), 1, 1, 30_000, 35_000)
