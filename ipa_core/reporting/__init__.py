"""Results for people: the report of a run, charts, sheets of pictures, pages of experiments."""
