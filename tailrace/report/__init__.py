"""What a report says, for people: gathered once, then written as a page, Markdown or a table.

In: a state directory, and what was asked for. Out: text. Nothing here writes to a terminal.
"""
