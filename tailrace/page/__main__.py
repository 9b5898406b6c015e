"""The page's process: started by `tailrace.page.beside`, never by hand."""

from __future__ import annotations

import sys

from tailrace.page.beside import Request
from tailrace.page.process import serve

serve(Request.from_json(sys.argv[1]))
