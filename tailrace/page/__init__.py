"""The live page: what a state directory knows, for a browser.

In: the store, `pairs.json` and the history of a state directory; silences go back into it. Out:
HTML and SVG, and what of them changed. The daemon only holds the listening socket (`beside`); all
else runs in a process of its own, which is there while somebody looks, so that nothing that
happens to the page can happen to the watching.
"""
