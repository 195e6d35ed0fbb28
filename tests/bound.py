"""The program with limits. Python sets them before it: forking a test process that has loaded gRPC may abort."""

import sys

# Permissions bind root too, once its capabilities to override them and to read everything are dropped.
PERMISSIONS = """
import ctypes, os
if os.geteuid() == 0:
    libc = ctypes.CDLL(None)
    if libc.prctl(24, 1) or libc.prctl(24, 2):
        os._exit(77)
"""


def limit(resource: str, most: int) -> str:
    """What sets a limit, such as RLIMIT_FSIZE."""
    return f"import resource; resource.setrlimit(resource.{resource}, ({most}, {most}))"


def bound_command(limits: str, *arguments: object) -> list[str]:
    """The command that runs `clipsearch` with arguments after Python has run `limits`."""
    start = f"{limits}\nimport os, sys; os.execv(sys.executable, [sys.executable, '-m', 'clipsearch', *sys.argv[1:]])"
    return [sys.executable, "-c", start, *map(str, arguments)]
