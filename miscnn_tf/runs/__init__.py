"""Run folders: the names and formats of their files, the lock on them, and the removal of what earlier runs left.

A run folder holds one training, fold, cross-validation or evaluation. `names` lists its files, and each format has a
module that reads and writes it. `run_folder` reads a whole folder; `earlier_files` finds the files that this package
wrote. Everything works without TensorFlow.
"""
