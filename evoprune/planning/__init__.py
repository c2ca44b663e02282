"""Before a search: what it would take here, in which number format, and what is amiss."""
