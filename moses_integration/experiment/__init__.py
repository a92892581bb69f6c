"""The whole chain from one configuration file: train, rescore, tune, decode, rerank, evaluate.

In: a TOML file. Out: a table with a row per system, and every step's files, restartable.
"""
