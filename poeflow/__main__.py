"""`python -m poeflow`: the same as the script.

Python itself may load a few modules of the working folder before this; no others are imported.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

from poeflow.cli.start import script  # only now: the folder came first

if __name__ == "__main__":
    script()
