"""Files to numpy arrays with their geometry, and back. Knows formats, nothing of networks."""
