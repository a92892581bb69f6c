"""The continuous-space language model (CSLM): a feed-forward network over the words before.

In: text, a trained model, a back-off model in ARPA form. Out: log-probabilities, perplexities, the
network as an ARPA file. Knows no phrase pair and no Moses file.
"""
