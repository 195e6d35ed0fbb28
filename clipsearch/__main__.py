"""The entry point of `clipsearch` and `python -m clipsearch`."""

import contextlib
import os
import sys
from collections.abc import Callable


def main() -> None:
    """Run the program. A broken installation, which fails to import, is reported as an internal error."""
    try:
        run = _entry()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if "--debug" in sys.argv:
            sys.excepthook(type(error), error, error.__traceback__)
        message = f"clipsearch: internal error: {error!r}; rerun with --debug for the traceback, and please report it\n"
        with contextlib.suppress(OSError):
            os.write(2, message.encode("utf-8", "backslashreplace"))
        sys.exit(4)
    run()


def _entry() -> Callable[[], None]:
    from clipsearch.images import DECODER

    if sys.argv[1:] == [DECODER]:
        from clipsearch.images.worker import serve

        return serve
    from clipsearch.cli.main import main

    return main


if __name__ == "__main__":
    main()
