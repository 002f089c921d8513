"""Rendered people with exact hands: demo clips, hand bench, training set of the small base model.

Rendering needs the extra ``[synthetic]`` (anny, numba); only the files ``body`` and ``raster`` import them.
"""
