"""What a model is for: how examples are collated and what is measured on each."""
