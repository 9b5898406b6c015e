"""What pictures look like: classes by CSS variables, for pages in light, in dark and on paper."""

from __future__ import annotations

from typing import Final

LIGHT: Final = """
  --ground: #ffffff; --panel: #f6f7f9; --rule: #d9dde3; --ink: #1b2330; --soft: #5b6675;
  --critical: #c4231c; --warning: #b45f06; --info: #2a62c9; --good: #23794a;
  --line: #2a62c9; --shade: #2a62c9; --band: #23794a; --edge: #b9c1cc; --node: #ffffff;
"""
DARK: Final = """
  --ground: #12161c; --panel: #1a2029; --rule: #323b48; --ink: #e7ebf0; --soft: #9aa6b5;
  --critical: #ff6b5e; --warning: #f0a33c; --info: #78a8ff; --good: #5fc98d;
  --line: #78a8ff; --shade: #78a8ff; --band: #5fc98d; --edge: #485361; --node: #1f2631;
"""
"""Each colour of text is at least 4.5:1 on its ground, and of lines 3:1."""

CSS: Final = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
:root[data-theme="light"] {{ color-scheme: light; {LIGHT} }}
:root[data-theme="dark"] {{ color-scheme: dark; {DARK} }}
@media print {{ :root {{ color-scheme: light; {LIGHT} }} }}
svg.chart, svg.map {{ max-width: 100%; height: auto; display: block;
  font: 12px system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }}
svg.chart text, svg.map text {{ fill: var(--ink); }}
svg.chart .grid {{ stroke: var(--rule); stroke-width: 1; }}
svg.chart .tick, svg.chart .unit {{ fill: var(--soft); font-size: 11px; }}
svg.chart .line {{ fill: none; stroke: var(--line); stroke-width: 1.8;
  stroke-linejoin: round; stroke-linecap: round; }}
svg.chart .shade {{ fill: var(--shade); opacity: .18; }}
svg.chart .band {{ fill: var(--band); opacity: .22; }}
svg.chart .band-on {{ fill: var(--band); opacity: .08; }}
svg.chart .band-edge {{ stroke: var(--band); stroke-width: 1; stroke-dasharray: 2 3; }}
svg.chart .band-label {{ fill: var(--band); font-size: 11px; }}
svg.chart .mark {{ stroke: var(--soft); stroke-width: 1.2; }}
svg.chart .mark.detected, svg.chart .mark.ended {{ stroke-dasharray: 4 3; }}
svg.chart .mark-label {{ font-size: 11px; fill: var(--soft); }}
svg.chart .mark.trigger {{ stroke: var(--info); stroke-width: 1.5; }}
svg.chart .mark-label.trigger {{ fill: var(--info); }}
svg.chart .mark.onset {{ stroke: var(--critical); stroke-width: 2; }}
svg.chart .mark-label.onset {{ fill: var(--critical); font-weight: 600; }}
svg.chart .after {{ fill: var(--critical); opacity: .05; }}
svg.chart .none {{ fill: var(--soft); }}
svg.map .node rect {{ fill: var(--node); stroke: var(--edge); stroke-width: 1; }}
svg.map .node.flagged rect {{ stroke-width: 2; }}
svg.map .node.root text {{ font-weight: 700; fill: var(--ground); }}
svg.map .node.quiet text {{ fill: var(--soft); }}
svg.map .edge path {{ fill: none; stroke: var(--edge); }}
svg.map .edge .head {{ fill: var(--edge); stroke: none; }}
svg.map .edge .hit {{ stroke: transparent; stroke-width: 12; }}
svg.map .edge .label-ground {{ fill: var(--ground); opacity: .88; stroke: none; }}
svg.map .edge text {{ font-size: 11px; font-weight: 600; }}
svg.map .note {{ font-size: 11px; fill: var(--soft); }}
svg.map .rootmark {{ font-size: 11px; font-weight: 600; }}
""" + "".join(
    f"""
svg.map .edge.{severity} path {{ stroke: var(--{severity}); }}
svg.map .edge.{severity} .hit {{ stroke: transparent; }}
svg.map .edge.{severity} .head, svg.map .edge.{severity} text,
svg.map .rootmark.{severity} {{ fill: var(--{severity}); }}
svg.map .node.{severity} rect {{ stroke: var(--{severity}); }}
svg.map .node.root.{severity} rect {{ fill: var(--{severity}); }}
"""
    for severity in ("info", "warning", "critical")
)
"""Styles of all pictures; of a page it takes `--ground`, `--panel`, `--ink`, `--soft`, `--rule` and
the colours of severities as well. `data-theme` on the root element overrules the system."""
