"""Experiments as files: what a TOML configuration may say, how it is built, and how a first one is proposed."""
