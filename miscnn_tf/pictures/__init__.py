"""Pictures of samples: slices, overlays, animations and heatmaps."""
