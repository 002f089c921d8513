"""`ipa web`: one read-only site over the store."""
