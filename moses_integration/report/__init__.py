"""One page that shows what a network learned, and what it did to a phrase table.

In: a rescored table with its signature; where given its model, a moses.ini, a tuning. Out: one HTML
file, the same numbers as JSON, pictures. The table is read once (`survey.py`); what the model alone
knows is asked of it (`insight.py`); `charts.py` and `page.py` draw both, and compute nothing.
"""
