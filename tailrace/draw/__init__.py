"""Pictures: pure functions from data to SVG, and to bars on a terminal.

In: series, service pairs, and what is flagged of them. Out: text. No clock, no files, and the same
text for the same data. Colours are CSS variables (`style.CSS`), so a picture is as dark or light
as the page around it; it needs no script, no font and no network.
"""
