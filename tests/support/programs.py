"""Small servers and clients, as sources for `tests.support.traffic.python`."""

HTTP_SERVER = """
import socketserver, sys, time, threading
host, port = sys.argv[1], int(sys.argv[2])
delay = float(sys.argv[3])
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            line = self.rfile.readline()
            if not line: return
            while self.rfile.readline() not in (b"\\r\\n", b""): pass
            time.sleep(delay)
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True; daemon_threads = True; request_queue_size = 128
    address_family = 10 if ":" in host else 2
server = Server((host, port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin: delay = float(line)
"""
"""Arguments: host, port, delay in seconds. A number on standard input is the new delay."""

BINARY_SERVER = """
import socket, struct, sys, time
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
delay = float(sys.argv[3])
print("ready", flush=True)
while True:
    c, _ = server.accept()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        head = c.recv(4, socket.MSG_WAITALL)
        if len(head) < 4: break
        size, = struct.unpack("!I", head)
        body = c.recv(size, socket.MSG_WAITALL)
        time.sleep(delay)
        c.sendall(head); c.sendall(body[::-1])
    c.close()
"""
"""Arguments: host, port, delay. A length-prefixed protocol that nobody has ever seen."""

BINARY_CLIENT = """
import os, socket, struct, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range(int(sys.argv[3])):
    body = os.urandom(300)
    c.sendall(struct.pack("!I", 300)); c.sendall(body)
    c.recv(304, socket.MSG_WAITALL)
print(sys.argv[3], flush=True)
"""
"""Arguments: host, port, requests."""

HTTP_CLIENT = """
import socket, sys, time
host, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
request = b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
c = None
due = time.monotonic()
end = due + float(sys.argv[4])
answered = 0
while due < end:
    due += 1 / rate
    time.sleep(max(0, due - time.monotonic()))
    due = max(due, time.monotonic() - 0.2)
    try:
        if c is None: c = socket.create_connection((host, port), timeout=5)
        c.sendall(request)
        answer = b""
        while not answer.endswith(b"ok\\n"):
            part = c.recv(4096)
            if not part: raise OSError("closed")
            answer += part
        answered += 1
    except OSError:
        if c is not None: c.close()
        c = None
print(answered, flush=True)
"""
"""Arguments: host, port, requests per second, seconds. Keeps its connection; prints the answers."""

RATE_CLIENT = """
import socket, sys, threading, time
host, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
request, ending = sys.argv[4:6]
request, ending = (s.encode().decode("unicode_escape").encode() for s in (request, ending))
def listen():
    global rate
    for line in sys.stdin: rate = float(line)
threading.Thread(target=listen, daemon=True).start()
c = None
while True:
    if not rate:
        time.sleep(0.05)
        continue
    began = time.monotonic()
    try:
        if c is None: c = socket.create_connection((host, port), timeout=5)
        c.sendall(request)
        answer = b""
        while not answer.endswith(ending):
            part = c.recv(4096)
            if not part: raise OSError("closed")
            answer += part
    except OSError:
        if c is not None: c.close()
        c = None
    time.sleep(max(0, 1 / rate - (time.monotonic() - began)))
"""
"""Arguments: host, port, requests per second, request, how an answer ends. A number on standard
input is the new rate, 0 for silence. Keeps its connection, comes back after errors."""

GET = (r"GET / HTTP/1.1\r\nHost: x\r\n\r\n", r"\n")
PING = (r"PING\r\n", r"+PONG\r\n")
"""Request and ending for RATE_CLIENT."""
