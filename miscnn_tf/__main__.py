"""Entry point of ``python -m miscnn_tf``, the command ``miscnn-tf``."""

import sys

from miscnn_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
