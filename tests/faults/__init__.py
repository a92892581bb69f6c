"""Faults on purpose: processes stopped at any system call, any bytes as files, hostile names.

`injection` stops and disturbs, `scenarios` says what is run and what must hold after it,
`any_bytes` makes broken files. The tests here are the short form of benchmarks/faults.py, which
uses the same.
"""
