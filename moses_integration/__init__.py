"""Everything that knows a Moses file: phrase tables, feature columns, moses.ini, the command line.

It imports `phrase_scorer`, never the reverse.
"""
