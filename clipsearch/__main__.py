"""`python -m clipsearch`."""

from clipsearch.cli.main import main

if __name__ == "__main__":
    main()
