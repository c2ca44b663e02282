"""What everything stands on: patterns, spaces, costs, fronts, and the seams. Numpy alone."""
