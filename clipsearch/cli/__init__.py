"""The command line: options in, one call, output out.

Modules with options do without `from __future__ import annotations`: Typer would compile every annotation at every start.
"""
