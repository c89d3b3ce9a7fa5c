"""`python -m mergecore` is the command line."""

from mergecore.cli.app import main

if __name__ == "__main__":
    main()
