"""Asking the trained experts about a user and an item: what stands behind `reason4rec.Recommender`."""
