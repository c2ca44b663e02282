"""How a style of network is taken apart: its sites, its cost table and its stages."""
