"""What follows matrix products, compiled from C++ where there is a compiler.

In: what a product gave. Out: what the equation makes of it, in one pass over memory, or by torch
where nothing is compiled. Knows neither models nor batches.
"""
