"""The machine: processor, memory, GPUs, oneDNN, installed packages and cluster."""
