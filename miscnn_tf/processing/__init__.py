"""From a sample to batches of patches, and from predicted patches back to the sample. Pure numpy."""
