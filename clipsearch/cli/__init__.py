"""The command line: options in, one call, output out.

Modules with options do without `from __future__ import annotations`: at every start, Typer would compile the text of
each annotation.
"""
