"""Samples from files: arrays with geometry, label maps, predictions. Knows formats and layouts, not networks.

`data_io`, `sample`, `geometry`, `labels`, `interfaces` (a file per layout), `layouts` (detection), `dicom` (writers),
`verification` and `grid_repair` are public. `formats` reads and writes single files; `cache` stores prepared samples
and decoded volumes; ``_discovery`` finds samples and masks.
"""
