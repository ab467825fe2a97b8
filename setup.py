"""All metadata lives in setup.cfg; this stub lets older tools find it."""

from setuptools import setup

setup()
