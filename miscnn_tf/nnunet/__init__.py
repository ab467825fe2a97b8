"""Models of nnU-Net: their files, plans and weights."""
