"""`python -m blip` is the `blip` command."""

from blip.cli import main

if __name__ == "__main__":
    main()
