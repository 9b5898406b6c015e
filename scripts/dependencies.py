"""Print what pyproject.toml asks for, one requirement per line: `dependencies.py run|test`."""

import sys
import tomllib
from pathlib import Path

asked = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
lines = list(asked["project"]["dependencies"])
for extra in asked["project"].get("optional-dependencies", {}).values():
    lines += extra
if sys.argv[1:] == ["test"]:
    lines += asked["dependency-groups"]["dev"]
sys.stdout.write("\n".join(lines) + "\n")
