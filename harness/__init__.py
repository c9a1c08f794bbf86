"""The jobs: training, the `imax` command line, runs on disk. Imports every other package; none imports it."""
