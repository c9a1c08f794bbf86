"""Sub-commands of `imax`, one file a subject."""
