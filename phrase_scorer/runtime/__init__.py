"""Bytes, processes, terminal: what every other wing stands on.

In: paths, bytes, items. Out: whole files, results in order, lines on the screen. Knows no phrase,
no model and no Moses file.
"""
