"""The search: pymoo's algorithms behind ask and tell, and the loop that feeds them."""
