"""A publisher and an environment for packtivity, found through entry points."""
