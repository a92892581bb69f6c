"""n-best lists after decoding: new features, weights for them, the best hypothesis.

In: n-best lists, models. Out: lists with more features, a weights file, translations.
"""
