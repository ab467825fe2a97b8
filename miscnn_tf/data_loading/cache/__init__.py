"""Storage of prepared samples and decoded volumes, in memory and on disk."""
