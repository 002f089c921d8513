"""Driving videos -> clips: finds the videos and their metadata, cuts windows, crops them, and splits the clips."""
