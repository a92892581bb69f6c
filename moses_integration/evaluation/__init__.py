"""How good translations are, and whether a difference could be chance.

In: outputs and references as text. Out: BLEU, chrF2, TER with paired significance, a report.
Knows no model and runs no program.
"""
