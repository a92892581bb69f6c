"""Phrases become ids, ids become tensors.

In: words as bytes. Out: `PhrasePairs` (flat id arrays), `Vocabulary` (the shortlist), `Batch`
(padded tensors with their masks). Knows no model.
"""
