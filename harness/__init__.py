"""The jobs: training, the `imax` command line, runs on disk. May import every other package; none imports it."""
