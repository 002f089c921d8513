"""Generate a clip's candidates with an animation model."""
