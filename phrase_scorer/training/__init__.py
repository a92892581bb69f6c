"""How models learn.

In: pairs, a configuration, settings. Out: a model directory. Knows nothing of scoring: the engine
reads what training leaves, never the reverse.
"""
