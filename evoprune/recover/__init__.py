"""What ``adapt`` may do to a candidate between realising its pattern and measuring it."""
