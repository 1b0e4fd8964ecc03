"""`python -m poeflow`: the same as the script, and no module of the working folder is imported."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]

from poeflow.cli.start import main  # only now: the folder came first

if __name__ == "__main__":
    main()
