"""The command line: each command parses its options, calls one method of `Index` and prints the result.

Modules that define commands do not use `from __future__ import annotations`: Typer would have to evaluate every
annotation at each start.
"""
