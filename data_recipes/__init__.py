"""Images, entries, mixtures: what the models are trained and tested on. Imports no other package of the project."""
