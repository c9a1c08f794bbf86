"""Images, entries, mixtures: what models are trained and tested on. Imports no other of the packages."""
