"""What a pattern is judged by: quality and robustness from tables, cost from the cost table."""
