"""`python -m mentor_pl` is `mentor-pl`."""

from mentor_pl.cli.main import main

if __name__ == "__main__":
    main()
