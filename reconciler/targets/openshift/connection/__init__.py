"""One cluster as one identity sees it: its credentials, its API, what it serves, and a cache that watches keep."""
