"""One file per format of Moses, the only place that knows its syntax.

In: bytes of phrase tables, moses.ini, n-best lists, signatures. Out: their content, or the same
bytes with one thing changed. Runs no program and knows no model.
"""
