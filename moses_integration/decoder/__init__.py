"""Moses' own programs: found, run, watched, their results read.

In: a moses.ini and text. Out: translations, n-best lists, tuned weights, binary tables. The only
wing that starts a program.
"""
