"""The page's process: started by `tailrace.page.beside`, never by hand."""

from __future__ import annotations

import sys

from tailrace.errors import TailraceError
from tailrace.page.beside import Request
from tailrace.page.process import serve

try:
    serve(Request.from_json(sys.argv[1]))
except (TailraceError, OSError) as error:
    sys.exit(f"live page: {error}")
