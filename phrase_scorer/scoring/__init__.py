"""How models score, fast.

In: a model directory and phrase pairs. Out: one natural-log probability per pair. `reference.py`
is the truth in float64; all else is speed. Knows nothing of training.
"""
