"""The run folder: its layout, journal, lock and front, and how a front is picked from and shown."""
