"""A trained network on photos and videos that belong to no dataset."""
