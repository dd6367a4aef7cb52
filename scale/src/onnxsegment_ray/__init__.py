"""Mosaics and folders of scenes, segmented by the command ``onnxsegment`` over a Ray cluster.

Pixels never pass through here: a task is a list of cells of a mosaic's lattice, and its result is a file that has its
name. The folder of parts says what is done.
"""

__version__ = "0.1.0"
