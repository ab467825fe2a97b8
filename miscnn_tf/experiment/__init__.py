"""Experiments as TOML configurations: schema, construction of the objects, and proposals for data sets."""
