"""What a person may write: the schema of an experiment, and how what they wrote is read."""
