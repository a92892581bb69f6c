"""Evidence for the documentation: why gates, which architecture.

In: text or phrase pairs. Out: tables and figures of what was measured. Nothing imports this wing
but its own commands.
"""
