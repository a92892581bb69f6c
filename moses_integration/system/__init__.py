"""A moses.ini and its tables together.

In: a moses.ini. Out: what Moses would not notice about it, the part of it that some inputs need,
the same file made to fit its tables. Runs no program and knows no model.
"""
