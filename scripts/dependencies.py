"""Print what pyproject.toml asks for, one a line: `dependencies.py run|test|kernels`."""

import sys
import tomllib
from pathlib import Path

asked = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
lines = list(asked["project"]["dependencies"])
for extra in asked["project"].get("optional-dependencies", {}).values():
    lines += extra
groups = {"run": (), "test": ("dev",), "kernels": ("dev", "kernels")}
for group in groups[sys.argv[1]]:
    lines += asked["dependency-groups"][group]
sys.stdout.write("\n".join(lines) + "\n")
