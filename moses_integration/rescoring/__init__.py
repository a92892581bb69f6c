"""The main job: a phrase table in, the same table with one more score per column out.

In: a request (`request.py`), models. Out: the table, its signature, a moses.ini that fits. The
loop is in `stream.py`; what a worker does with a block is in `block.py`.
"""
